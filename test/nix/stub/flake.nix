# A stand-in for nixpkgs: enough to evaluate our flake offline and to build with the machine's own shell. It checks the
# shape of what the flake asks for, not that the real nixpkgs can build it.
{
  description = "nixpkgs stub";
  outputs =
    { self }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      names = [
        "binutils"
        "bun"
        "curl"
        "deno"
        "gcc"
        "go"
        "hyperfine"
        "jq"
        "makeWrapper"
        "memcached"
        "netcat-openbsd"
        "nginx"
        "nodejs_22"
        "python3"
        "redis"
        "socat"
        "strace"
        "systemd"
        "wayland"
        "wayland-scanner"
        "wget"
      ];
      packagesOf =
        system:
        let
          build =
            name: script:
            derivation {
              inherit name system;
              builder = "/bin/sh";
              args = [
                "-c"
                script
              ];
            };
          stdenv = build "stub-stdenv" "/bin/mkdir $out; /bin/echo 'export STUB_STDENV=1' > $out/setup";
          tools = builtins.listToAttrs (
            map (name: {
              inherit name;
              value = build name "/bin/mkdir $out";
            }) names
          );
        in
        tools
        // {
          inherit system;
          lib = {
            licenses.mit = "MIT";
            makeBinPath = list: builtins.concatStringsSep ":" (map (each: "${each}/bin") list);
          };
          # As in nixpkgs: a function with an attribute. It insists on an address and an integrity for every package.
          importNpmLock = {
            npmConfigHook = tools.makeWrapper;
            __functor =
              _: { npmRoot, packageLock }:
              let
                complete =
                  path:
                  let
                    entry = packageLock.packages.${path};
                  in
                  path == ""
                  || (entry ? integrity && builtins.match "https://.*\\.tgz" entry.resolved != null)
                  || (!(entry ? integrity) && entry.optional);
                missing = builtins.filter (path: !(complete path)) (builtins.attrNames packageLock.packages);
              in
              if missing == [ ] then
                build "npm-deps" "/bin/echo ${npmRoot} > $out"
              else
                throw "no address or integrity for ${builtins.toString missing}";
          };
          buildNpmPackage =
            a:
            (derivation {
              name = "${a.pname}-${a.version}";
              inherit system;
              builder = "/bin/sh";
              args = [
                "-c"
                "test -f $src/package.json && test -x $src/bin/shmlink && /bin/echo built > $out"
              ];
              inherit (a)
                npmBuildScript
                npmConfigHook
                npmDeps
                postFixup
                src
                ;
            })
            // {
              inherit (a) meta;
            };
          mkShell =
            a:
            derivation {
              name = "shell";
              inherit system stdenv;
              builder = "/bin/bash";
              args = [
                "-c"
                "echo shell > $out"
              ];
              outputs = [ "out" ];
              packagesList = a.packages;
              inherit (a) shellHook;
            };
        };
    in
    {
      legacyPackages = builtins.listToAttrs (
        map (system: {
          name = system;
          value = packagesOf system;
        }) systems
      );
    };
}
