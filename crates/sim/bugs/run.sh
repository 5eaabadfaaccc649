#!/usr/bin/env bash
# Proves the simulator: plants each bug of this folder in a copy of the pure crates, and demands that it is found.
#
#   bugs/run.sh                  all of tier 1
#   bugs/run.sh 08-signal        those whose name begins so
#   TIER=system bugs/run.sh      those of the worker and the store, which tier 2 must find
#
# SEEDS (2000) is within how many seeds each must be found. Exit code 0 only when the copy without a bug passes and
# every planted bug is found.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
seeds=${SEEDS:-2000}
bugs=$here features=--no-default-features flags=
[ "${TIER:-}" = system ] && bugs=$here/system features= flags=--system
wanted=${1:-all}
[ "$wanted" = all ] && wanted=

area=$(mktemp -d "${TMPDIR:-/tmp}/lantern-bugs.XXXXXX")
trap 'rm -rf "$area"' EXIT

# A workspace of its own, with the crates that the simulator needs and the versions that the lock file names.
mkdir -p "$area/tree/crates"
cp -R "$root/crates/." "$area/tree/crates/"
cp -R "$root/migrations" "$root/Cargo.lock" "$root/rust-toolchain.toml" "$area/tree/"
sed 's/^members = .*/members = ["crates\/*"]/' "$root/Cargo.toml" > "$area/tree/Cargo.toml"

# One target folder for all bugs, so that only what a patch touches is built again; light optimisation, to build soon.
export CARGO_TARGET_DIR="$area/target" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1
# The copy may lie inside some repository; patches are about the copy.
export GIT_CEILING_DIRECTORIES="$area"

build() { (cd "$area/tree" && cargo build --release --quiet -p lantern-sim $features) 2> "$area/build.log"; }
sim() { "$area/target/release/lantern-sim" $flags --seeds "$seeds" > "$area/out.log" 2>&1; }

build || { cat "$area/build.log"; exit 1; }
# Without a bug tier 2 has a tenth of the seeds to hold: it takes longer for each.
[ -n "$flags" ] && seeds=$((seeds / 10))
sim || { cat "$area/out.log"; echo "without a planted bug the simulation fails: mend that first"; exit 1; }

found=0 missed=0
for patch in "$bugs/$wanted"*.patch; do
    [ -e "$patch" ] || { echo "no planted bug is named $wanted"; exit 2; }
    name=$(basename "$patch" .patch)
    (cd "$area/tree" && git apply --whitespace=nowarn "$patch") || { echo "$name: the patch does not apply any more"; exit 1; }
    build || { cat "$area/build.log"; echo "$name: does not compile"; exit 1; }
    if sim; then
        missed=$((missed + 1))
        printf '%-44s NOT FOUND within %s seeds\n' "$name" "$seeds"
    else
        # The last lines of a failure: the seed, the promise, the command that repeats it.
        seed=$(sed -n 's/^seed \([0-9]*\) broke a promise.*/\1/p' "$area/out.log")
        rule=$(tail -n 2 "$area/out.log" | head -n 1 | cut -d: -f1)
        if [ -z "$seed" ]; then cat "$area/out.log"; echo "$name: failed without breaking a promise"; exit 1; fi
        found=$((found + 1))
        printf '%-44s seed %-5s %s\n' "$name" "$seed" "$rule"
    fi
    (cd "$area/tree" && git apply --whitespace=nowarn --reverse "$patch")
done
echo "$found found, $missed not found"
[ "$missed" -eq 0 ]
