#!/bin/sh
# Makes an image of scrape.py and of the Python of this machine, and writes its digest into agent.yaml.
#
#   examples/headless-agents/02-web-scraper/build.sh [path of the lantern program] [data folder of the server]
set -eu
lantern=$(command -v "${1:-lantern}")
data=$(realpath -m "${2:-data}")
here=$(dirname "$(realpath "$0")")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
image=$scratch/image
mkdir -p "$image/app"

python=$(realpath "${PYTHON:-/usr/bin/python3}")
lib=$("$python" -Ic 'import sysconfig; print(sysconfig.get_path("stdlib"))')
# The program, with the libraries that it is linked with.
cp -L --parents "$python" "$image"
ldd "$python" | grep -o '/[^ ]*' | while read -r library; do cp -L --parents "$library" "$image"; done
mkdir -p "$image$lib"
tar -C "$lib" --exclude=test --exclude=__pycache__ --exclude='config-*' --exclude=site-packages --exclude=dist-packages \
    --exclude=idlelib --exclude=ensurepip --exclude=lib2to3 --exclude=tkinter -cf - . | tar -C "$image$lib" -xf -
cp "$here/scrape.py" "$image/app"
"$lantern" build "$image" --name scraper --entrypoint "$python" --entrypoint=-I --entrypoint=-B --entrypoint /app/scrape.py \
    --data-dir "$data" --into "${SPEC:-$here/agent.yaml}"
