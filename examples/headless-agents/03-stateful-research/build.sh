#!/bin/sh
# Makes an image of research.py and of the Python of this machine, or of research.mjs and its Node, and writes its digest into agent.yaml.
#
#   examples/headless-agents/03-stateful-research/build.sh [path of the lantern program] [data folder of the server] [python|node]
set -eu
lantern=$(command -v "${1:-lantern}")
data=$(realpath -m "${2:-data}")
here=$(dirname "$(realpath "$0")")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
image=$scratch/image
mkdir -p "$image/app"

# A program, with the libraries that it is linked with.
with_libraries() {
    cp -L --parents "$1" "$image"
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do cp -L --parents "$library" "$image"; done
}

case ${3:-python} in
python)
    python=$(realpath "${PYTHON:-/usr/bin/python3}")
    lib=$("$python" -Ic 'import sysconfig; print(sysconfig.get_path("stdlib"))')
    with_libraries "$python"
    mkdir -p "$image$lib"
    tar -C "$lib" --exclude=test --exclude=__pycache__ --exclude='config-*' --exclude=site-packages --exclude=dist-packages \
        --exclude=idlelib --exclude=ensurepip --exclude=lib2to3 --exclude=tkinter -cf - . | tar -C "$image$lib" -xf -
    cp "$here/research.py" "$here/../helpers/lantern.py" "$image/app"
    set -- --entrypoint "$python" --entrypoint=-I --entrypoint=-B --entrypoint=-c \
        --entrypoint "import sys; sys.path.insert(0, '/app'); import research"
    ;;
node)
    node=$(realpath "${NODE:-$(command -v node)}")
    with_libraries "$node"
    cp "$here/research.mjs" "$here/../helpers/lantern.mjs" "$image/app"
    set -- --entrypoint "$node" --entrypoint /app/research.mjs
    ;;
esac
"$lantern" build "$image" --name research "$@" --data-dir "$data" --into "${SPEC:-$here/agent.yaml}"
