/** Numbers that must not mix. A brand is made in one place, after checking. */
declare const brand: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** An object of a Wayland connection: 1 is wl_display, 2 … 0xfeffffff the client's, above the broker's. */
export type ObjectId = Brand<number, "ObjectId">;
