#!/usr/bin/env bash
# Fills the dev tenant of a running `lantern dev` by really running a few agents: a digest of this repository's newest
# commit, a map over numbers, and a run that waits for a person. Needs nothing but the `lantern` program.
#
#   examples/seed.sh [path of the lantern program]
set -euo pipefail
cd "$(dirname "$0")/.."
lantern=${1:-lantern}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# A login of its own, so that nobody's saved one is replaced.
export LANTERN_CREDENTIALS="$scratch/credentials.json"

"$lantern" login --email admin@lantern.dev --password lantern

cat > "$scratch/squares.json" <<'JSON'
{ "name": "squares", "description": "Squares a list of numbers, three at a time", "program": "steps", "steps": [
  { "id": "each", "kind": "map", "data": { "items": "{{input.numbers}}", "concurrency": 3 },
    "step": { "kind": "tool", "data": { "tool": "calc", "arguments": { "expression": "{{item}}^2" } } } } ] }
JSON
cat > "$scratch/release.json" <<'JSON'
{ "name": "release", "description": "Adds up what changed, then asks a person", "program": "steps", "steps": [
  { "id": "sum", "kind": "tool", "data": { "tool": "calc", "arguments": { "expression": "{{input.changes}}" } } },
  { "id": "ship", "kind": "approval", "data": { "reason": "{{steps.sum.value}} lines changed. Ship it?" } } ] }
JSON
for file in examples/digest/agent.json "$scratch/squares.json" "$scratch/release.json"; do
  "$lantern" agents create --file "$file"
done

git log -p -n 1 --no-merges --no-color > "$scratch/history.txt"
"$lantern" runs create --agent squares --input '{"numbers": [1, 2, 3, 4, 5]}' --follow
"$lantern" runs create --agent digest --input "@$scratch/history.txt" --follow
"$lantern" runs create --agent release --input '{"changes": "120+33"}' | tee "$scratch/release.txt"
"$lantern" runs list
release=$(awk '{ print $NF }' "$scratch/release.txt")
echo "one run waits for you; let it go on with: lantern runs approve $release ship"
