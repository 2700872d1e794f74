#!/bin/sh
# Builds the release binary once more, guided by a profile of itself at work (PGO):
#   pgo.sh OUT [TARGET]     OUT: where the binary goes; TARGET: cargo's target folder (default: target)
# Needs llvm-profdata of the compiler's own LLVM: rustup component add llvm-tools. Takes two release builds and half a minute.
set -eu

out=$1
target=${2:-target}
say() { printf 'pgo: %s\n' "$*"; }

profdata=$(find "$(rustc --print sysroot)" -name llvm-profdata -type f 2>/dev/null | head -n 1)
if [ -z "$profdata" ]; then
    say "llvm-profdata is missing. Install it with: rustup component add llvm-tools"
    exit 1
fi

work=$(mktemp -d)
pids=
# Whatever happens, nothing is left running.
trap 'for pid in $pids; do kill "$pid" 2>/dev/null || true; done; rm -rf "$work"' EXIT INT TERM

# The same path each time: what was built for it is still good the next time.
raw=$(mkdir -p "$target/pgo/raw" && cd "$target/pgo/raw" && pwd)
rm -f "$raw"/*.profraw

say "building what is measured (1 of 2)"
cargo build --release --locked -p strangler-bench --target-dir "$target"
RUSTFLAGS="-Cprofile-generate=$raw" cargo build --release --locked -p strangler --target-dir "$target/pgo"

# The backend ends with its standard input.
mkfifo "$work/open"
"$target/release/bench-backend" <"$work/open" >"$work/backend" &
pids="$pids $!"
exec 3>"$work/open"
until [ -s "$work/backend" ]; do sleep 0.1; done
read -r one two <"$work/backend"

# Like a table at work: many routes that do not match, one that splits users, one that is copied and compared.
{
    printf 'version: 1\nupstreams:\n  one: {endpoints: ["http://%s"]}\n  two: {endpoints: ["http://%s"]}\nlegacy: one\n' "$one" "$two"
    printf 'journeys: {shoppers: {sticky_on: ["header:x-user-id"]}}\nroutes:\n'
    i=0
    while [ $i -lt 100 ]; do
        printf "  - {name: other-%s, match: '/api/v1/thing-%s/{id}', extracted: two, weight: 10%%}\n" $i $i
        i=$((i + 1))
    done
    printf "  - {name: copied, match: 'GET /copied/{*rest}', extracted: two, shadow: {sample: 100%%, max_rps: 1000000, max_in_flight: 1000}, compare: true}\n"
    printf "  - {name: split, journey: shoppers, match: '/{*rest}', extracted: two, weight: 50%%}\n"
} >"$work/routes.yaml"

"$target/pgo/release/strangler" run --routes "$work/routes.yaml" --state-dir "$work/state" --threads 1 --access-log off \
    --listen 127.0.0.1:0 --admin 127.0.0.1:0 2>"$work/said" >/dev/null &
proxy=$!
pids="$pids $proxy"
until at=$(sed -n 's|^.*listening on http://||p' "$work/said") && [ -n "$at" ]; do
    kill -0 "$proxy" || { cat "$work/said"; exit 1; }
    sleep 0.1
done

load() { "$target/release/bench-load" --to "$at" "$@"; }
say "learning"
load --seconds 8
load --seconds 3 --body 16384
load --seconds 3 --close
load --seconds 4 --path /copied/1
load --seconds 1 --path /big

# A profile is written when the process ends well.
kill -TERM "$proxy"
wait "$proxy" || true
"$profdata" merge -o "$work/merged.profdata" "$raw"

say "building with what was learned (2 of 2)"
RUSTFLAGS="-Cprofile-use=$work/merged.profdata" cargo build --release --locked -p strangler --target-dir "$target/pgo"
cp "$target/pgo/release/strangler" "$out"
say "done: $out"
