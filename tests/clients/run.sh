#!/bin/sh
# Real clients and servers (curl, h2load, grpcio, httpx, websockets) through the built proxy.
#   run.sh [TARGET [PART OF A CASE'S NAME]]     TARGET: cargo's folder, with debug/strangler in it; default: target
# Installs what is missing, and only that; says what it does before it does it.
set -eu
cd "$(dirname "$0")/../.."
target=${1:-target}
only=${2:-}
here=tests/clients
venv=$target/clients-venv
STRANGLER=${STRANGLER:-$target/debug/strangler}
export STRANGLER

say() { printf 'clients: %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# Mirrors and registries fail now and then.
thrice() {
    for try in 1 2 3; do
        "$@" && return
        say "failed ($try of 3): $*"
        sleep $((try * 3))
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install() {
    if ! have apt-get; then
        say "please install: $*; there is no apt-get here"
        exit 1
    fi
    say "installing $* by apt-get"
    thrice as_root apt-get -qq update
    thrice as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@" >/dev/null
}

[ -x "$STRANGLER" ] || { say "$STRANGLER is not there; cargo build -p strangler makes it"; exit 1; }
have curl || install curl
have h2load || install nghttp2-client
have python3 || install python3
python3 -c 'import ensurepip, venv' 2>/dev/null || install python3-venv
# As it was installed from this very list, it is taken as it is.
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    say "installing $(grep -c == "$here/requirements.txt") Python packages into $venv (PyPI)"
    python3 -m venv --clear "$venv"
    thrice "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi
exec "$venv/bin/python" -B "$here/run.py" "$only"
