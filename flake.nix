{
  description = "A switchboard for programs on one Linux node: shared-memory channels, fd relay and TCP hand-off";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.05";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];

      # One attribute a system, made by `make` from that system's packages.
      forAll =
        make:
        builtins.listToAttrs (
          map (system: {
            name = system;
            value = make nixpkgs.legacyPackages.${system};
          }) systems
        );

      manifest = builtins.fromJSON (builtins.readFile ./package.json);
      lock = builtins.fromJSON (builtins.readFile ./package-lock.json);

      # The lockfile names no registry; each package has its integrity, and here gets the address it is fetched from.
      # Optional packages for other platforms have none, and are never fetched.
      addAddress =
        path: entry:
        if path == "" || entry ? resolved || !(entry ? integrity) then
          entry
        else
          let
            name = builtins.elemAt (builtins.match "(.*/)?node_modules/(.*)" path) 1;
            file = builtins.baseNameOf name;
          in
          entry // { resolved = "https://registry.npmjs.org/${name}/-/${file}-${entry.version}.tgz"; };
      packageLock = lock // {
        packages = builtins.mapAttrs addAddress lock.packages;
      };

      # What the tests and checks use besides the npm packages; .ci/run has the Debian names.
      testTools =
        pkgs: with pkgs; [
          binutils
          curl
          gcc
          go
          hyperfine
          jq
          memcached
          netcat-openbsd
          nginx
          python3
          redis
          socat
          strace
          systemd
          wayland
          wayland-scanner
          wget
        ];

      # Only what the package is made of, so that a changed test does not rebuild it.
      source = builtins.path {
        path = ./.;
        name = "shmlink-source";
        filter =
          path: _:
          !(builtins.elem (builtins.baseNameOf path) [
            "node_modules"
            "dist"
            "build"
            ".git"
          ]);
      };
    in
    {
      packages = forAll (pkgs: {
        default = pkgs.buildNpmPackage {
          pname = manifest.name;
          version = manifest.version;
          src = source;
          npmDeps = pkgs.importNpmLock {
            npmRoot = source;
            inherit packageLock;
          };
          npmConfigHook = pkgs.importNpmLock.npmConfigHook;
          npmBuildScript = "build";
          nativeBuildInputs = [ pkgs.makeWrapper ];
          # The launcher takes bun from PATH, and node to run dist/ where there is none.
          postFixup = ''
            wrapProgram $out/bin/shmlink --suffix PATH : ${
              pkgs.lib.makeBinPath [
                pkgs.bun
                pkgs.nodejs_22
              ]
            }
          '';
          meta = {
            inherit (manifest) description;
            license = pkgs.lib.licenses.mit;
            mainProgram = "shmlink";
            platforms = systems;
          };
        };
      });

      devShells = forAll (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.bun
            pkgs.deno
            pkgs.nodejs_22
          ] ++ testTools pkgs;
          # The runtimes of the npm packages are built for other distributions: the tests take these instead.
          shellHook = ''
            export SHMLINK_TEST_BUN=${pkgs.bun}/bin/bun SHMLINK_TEST_DENO=${pkgs.deno}/bin/deno
          '';
        };
      });

      checks = forAll (pkgs: {
        package = self.packages.${pkgs.system}.default;
      });
    };
}
