#!/bin/sh
# A real browser before the dashboard of the built proxy: every page at both widths, the controls, the keyboard, the policy.
#   run.sh [TARGET]     TARGET: cargo's folder, with debug/strangler in it; default: target
# SHOTS=DIR keeps a picture of each page. Installs what is missing, and says what it does before it does it.
set -eu
cd "$(dirname "$0")/../.."
target=${1:-target}
STRANGLER=${STRANGLER:-$target/debug/strangler}
export STRANGLER
venv=$target/browser-venv
here=tests/browser

say() { printf 'browser: %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

thrice() {
    for try in 1 2 3; do
        "$@" && return
        say "failed ($try of 3): $*"
        sleep $((try * 3))
    done
    return 1
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
have chromedriver || install chromium chromium-driver fonts-dejavu-core
have python3 || install python3
python3 -c 'import ensurepip, venv' 2>/dev/null || install python3-venv
# For axe.min.js alone, the rules of accessibility; its Python is not used, nor are the packages that it would bring along.
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    say "installing axe-core into $venv (PyPI)"
    python3 -m venv --clear "$venv"
    thrice "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi
AXE=$(find "$venv" -name axe.min.js | head -n 1)
export AXE
exec "$venv/bin/python" -B "$here/run.py"
