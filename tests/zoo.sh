# shellcheck shell=bash
# Sourced by tests/run, behind tests/venv.sh: installs the proxies of tests/proxies/zoo.

# apt_install_idle PACKAGE... - apt_install, and no service of these is started, neither now nor
# when the machine is started again: the tests start the programs themselves.
apt_install_idle() (
    may_apt_install || exit 1
    # Debian's packages ask this file whether they may start a service. If there is one, it is not
    # ours to change.
    policy=/usr/sbin/policy-rc.d
    as_root=(env)
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin "$policy" || exit 1
        trap '"${as_root[@]}" rm -f "$policy"' EXIT
    fi
    apt_install "$@" || exit 1
    if [ -d /run/systemd/system ]; then
        for package in "$@"; do
            [ ! -e "/lib/systemd/system/$package.service" ] ||
                "${as_root[@]}" systemctl --quiet disable "$package" || exit 1
        done
    fi
)

# What the whole zoo needs beside the proxies of every run.
install_zoo() {
    local name package wanted=() done=1
    for name in apache:apache2 varnish:varnish tinyproxy:tinyproxy privoxy:privoxy \
        network:"iproute2 nftables util-linux"; do
        package=${name#*:}
        # shellcheck disable=SC2206 # several packages, one a word
        present "${name%%:*}" || wanted+=($package)
    done
    [ ${#wanted[@]} -eq 0 ] || apt_install_idle "${wanted[@]}" || done=
    present mitmproxy || install_mitmproxy || done=
    [ -n "$done" ]
}

# In a virtual environment of its own: it wants other versions of what we use.
install_mitmproxy() {
    say "installing mitmproxy into .venv-mitmproxy"
    "$python" -m venv --clear "$root/.venv-mitmproxy" &&
        # The version that the add-ons were written for.
        "$root/.venv-mitmproxy/bin/python" -m pip install -q --disable-pip-version-check 'mitmproxy>=11,<12'
}
