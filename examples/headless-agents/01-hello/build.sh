#!/bin/sh
# Compiles hello.rs into one static file and makes an image of it, whose digest goes into agent.yaml. Needs rustc and `lantern`.
#
#   examples/headless-agents/01-hello/build.sh [path of the lantern program] [data folder of the server]
set -eu
lantern=$(command -v "${1:-lantern}")
data=$(realpath -m "${2:-data}")
here=$(dirname "$(realpath "$0")")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/image"
# From its own folder, so that the file does not hold the path of this one.
cd "$here"
rustc --edition 2024 -C opt-level=2 -C strip=symbols -C target-feature=+crt-static -o "$scratch/image/hello" hello.rs
"$lantern" build "$scratch/image" --name hello --entrypoint /hello --data-dir "$data" --into "${SPEC:-agent.yaml}"
