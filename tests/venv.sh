# shellcheck shell=bash
# Sourced by tests/run and demo/run, which set `root` and `me`: makes the
# virtual environment .venv and installs this repository into it, each only
# when needed.

python=$root/.venv/bin/python

say() { printf '%s: %s\n' "$me" "$*" >&2; }

die() {
    say "$@"
    exit 1
}

# Whether there is apt, and the right to use it.
may_apt_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }
}

# apt_install PACKAGE... - false where that is not possible.
apt_install() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
    may_apt_install || return 1
    [ "$(id -u)" -eq 0 ] || apt=(sudo -n "${apt[@]}")
    say "installing with apt: $*"
    # The package lists may be old, or absent: the second try has fresh ones.
    "${apt[@]}" install --no-install-recommends "$@" >/dev/null ||
        { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "$@"; } >/dev/null
}

pip_install() { "$python" -m pip install -q --disable-pip-version-check "$@"; }

make_venv() {
    local base=${PYTHON:-python3}
    # A venv that was left half made has a Python, and no pip.
    "$python" -c 'import pip' 2>/dev/null && return
    command -v "$base" >/dev/null || die "there is no $base; install Python 3.10 or newer, or name one in PYTHON"
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        die "$("$base" -V) is too old; install Python 3.10 or newer, or name one in PYTHON"
    if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian and Ubuntu keep this part of Python in a package of its own.
        apt_install python3-venv && "$base" -c 'import ensurepip, venv' ||
            die "$base cannot make a virtual environment; install the package python3-venv"
    fi
    say "making .venv with $("$base" -V)"
    "$base" -m venv --clear "$root/.venv" || die "cannot make $root/.venv"
}

# install_package EXTRA [OTHER...] - installs the repository with EXTRA, unless
# it is there already with EXTRA or with one of OTHER, which hold all of EXTRA.
# "core" stands for no extra at all.
install_package() {
    local extra=$1 name wanted
    # Another pyproject.toml is another set of packages, and in a copied tree
    # the venv still points to the original.
    wanted=$root$'\n'$(cat "$root/pyproject.toml")
    for name in "$@"; do
        [ "$(cat "$root/.venv/installed-$name" 2>/dev/null)" = "$wanted" ] && return
    done
    say "installing the Python packages ($extra)"
    [ "$extra" = core ] && name=$root || name=$root[$extra]
    pip_install -e "$name" || return 1
    printf '%s\n' "$wanted" >"$root/.venv/installed-$extra"
}
