/** What a broker and its holder say to one another: a packet is a word, names after it, and a descriptor for each name
 *  that comes with one. */

/** To the holder: hold this under a name; let go of what has a name; I end as I should. */
export const STORE = "store";
export const UNSTORE = "unstore";
export const STOPPING = "stopping";
/** From the holder, at once when a broker comes: what it has, a few at a time, and that this was all. */
export const HELD = "held";
export const ALL = "all";
/** SCM_MAX_FD is 253; names have to fit as well. */
export const HELD_AT_A_TIME = 100;
/** The holder's socket is the broker's with this. */
export const HELD_SUFFIX = ".held";
