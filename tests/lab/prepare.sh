# Sourced by tests/run and tests/soak: what the tests need on a Debian machine, and the S3 server.
# shellcheck shell=bash

# Runs a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# The packages of commands that are missing. Arguments: COMMAND:PACKAGE.
packages_of_missing() {
    local entry
    for entry in "$@"; do
        command -v "${entry%%:*}" > /dev/null || echo "${entry##*:}"
    done
}

# Installs Debian packages, if any.
install_debian_packages() {
    [ $# -gt 0 ] || return 0
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

# Installs what the tests call.
install_packages() {
    local missing
    mapfile -t missing < <(packages_of_missing cc:build-essential curl:curl lftp:lftp git:git jq:jq \
        openssl:openssl sslscan:sslscan python3:python3 radosgw:radosgw slapadd:slapd ldapsearch:ldap-utils redis-server:redis-server \
        ceph-mon:ceph-mon ceph-osd:ceph-osd \
        ceph:ceph-common chromium:chromium node:nodejs npm:npm script:bsdutils ip:iproute2 unshare:util-linux)
    python3 -c 'import ensurepip, venv' 2> /dev/null || missing+=(python3-venv)
    install_debian_packages "${missing[@]}"
}

# What other servers make their users' passwords with. The packages of pure-pw and ftpasswd would start servers: only
# the programs are taken out of them.
install_password_tools() {
    local home=$PWD/tests/.clients/passwords missing package
    mapfile -t missing < <(packages_of_missing htpasswd:apache2-utils mkpasswd:whois perl:perl)
    compgen -G "/usr/lib/*/libsodium.so.23" > /dev/null || missing+=(libsodium23)
    install_debian_packages "${missing[@]}"
    if [ -x "$home/usr/bin/pure-pw" ] && [ -x "$home/usr/sbin/ftpasswd" ]; then
        return
    fi
    mkdir -p "$home"
    (
        cd "$home" || exit
        apt-get download -q pure-ftpd proftpd-core || { as_root apt-get update -q && apt-get download -q pure-ftpd proftpd-core; }
        for package in *.deb; do
            dpkg-deb -x "$package" .
            rm "$package"
        done
    )
}

# Servers to compare with. Their packages would start them: only the programs are taken out.
install_rivals() {
    local home=$PWD/tests/.clients/rivals missing package
    local packages=(vsftpd proftpd-core proftpd-mod-crypto pure-ftpd pure-ftpd-common libhiredis0.14 libmemcached11 libmemcachedutil2
        libhashkit2 libpcre2-posix3 libsodium23 libcap2)
    mapfile -t missing < <(packages_of_missing s3fs:s3fs unshare:util-linux)
    install_debian_packages "${missing[@]}"
    if [ -x "$home/usr/sbin/vsftpd" ] && [ -x "$home/usr/sbin/proftpd" ] && [ -x "$home/usr/sbin/pure-ftpd" ]; then
        return
    fi
    mkdir -p "$home"
    (
        cd "$home" || exit
        apt-get download -q "${packages[@]}" || { as_root apt-get update -q && apt-get download -q "${packages[@]}"; }
        for package in *.deb; do
            dpkg-deb -x "$package" .
            rm "$package"
        done
    )
}

# What checks the alerts, the unit file, the scripts, the compose file and Terraform's; after
# install_python_packages.
install_ship_packages() {
    local missing
    mapfile -t missing < <(packages_of_missing promtool:prometheus shellcheck:shellcheck systemd-analyze:systemd)
    install_debian_packages "${missing[@]}"
    if ! tests/.venv/bin/python -c 'import compose_spec, hcl2' 2> /dev/null; then
        tests/.venv/bin/pip install --quiet --disable-pip-version-check 'compose-spec>=0.2,<0.3' 'python-hcl2>=8,<9'
    fi
}

# What builds and runs images.
install_image_packages() {
    local missing
    mapfile -t missing < <(packages_of_missing buildah:buildah podman:podman runc:runc)
    install_debian_packages "${missing[@]}"
}

install_python_packages() {
    if ! tests/.venv/bin/python -c 'import boto3, jsonschema, yaml' 2> /dev/null; then
        rm -rf tests/.venv
        python3 -m venv tests/.venv
        tests/.venv/bin/pip install --quiet --disable-pip-version-check 'boto3>=1.36,<2' 'pyyaml>=6,<7' 'jsonschema>=4,<5'
    fi
    # For tests that call `python3`.
    PATH="$PWD/tests/.venv/bin:$PATH"
}

# The stand-ins for Google Cloud Storage (with its client), Azure Blob Storage and a second S3.
install_stand_ins() {
    local missing
    if ! tests/.venv/bin/python -c 'import azure.storage.blob, gcp_storage_emulator, moto.server, requests' 2> /dev/null; then
        tests/.venv/bin/pip install --quiet --disable-pip-version-check \
            'azure-storage-blob>=12,<13' 'gcp-storage-emulator>=2026' 'moto[server]>=5,<6' 'requests>=2,<3'
    fi
    if [ ! -d tests/.clients/azurite/node_modules/azurite ]; then
        mapfile -t missing < <(packages_of_missing node:nodejs npm:npm)
        install_debian_packages "${missing[@]}"
        mkdir -p tests/.clients/azurite
        npm install --silent --no-fund --no-audit --prefix tests/.clients/azurite 'azurite@3'
    fi
}

# The driver of the browser that looks at the status page.
install_browser_driver() {
    local home=$PWD/tests/.clients/page
    # The newest that runs on Debian 12's Node.js 18.
    local version=1.52.0
    [ "$(jq -r .version "$home/node_modules/playwright-core/package.json" 2> /dev/null)" = $version ] && return
    mkdir -p "$home"
    npm install --silent --no-audit --no-fund --no-save --prefix "$home" playwright-core@$version
}

install_nextest() {
    cargo nextest --version > /dev/null 2>&1 || cargo install --locked cargo-nextest
}

# Starts the S3 server for this shell's life and tells the tests where it is.
start_s3() {
    s3_directory=$(mktemp -d)
    trap stop_s3 EXIT
    # The exit status of a signal, and the EXIT trap above.
    trap 'exit 130' INT
    trap 'exit 143' TERM
    CAUSEWAY_TEST_S3=$(tests/lab/rgw.sh start "$s3_directory" "${S3_OBJECTS:-memory}")
    # A test that would be skipped for want of a peer fails instead.
    export CAUSEWAY_TEST_S3 REQUIRE_PEERS=1
}

# Starts the other stores beside it, after start_s3.
start_stand_ins() {
    CAUSEWAY_TEST_MOTO=$(tests/lab/moto.sh start "$s3_directory/moto")
    CAUSEWAY_TEST_GCS=$(tests/lab/gcs.sh start "$s3_directory/gcs")
    CAUSEWAY_TEST_AZBLOB=$(tests/lab/azurite.sh start "$s3_directory/azurite")
    export CAUSEWAY_TEST_MOTO CAUSEWAY_TEST_GCS CAUSEWAY_TEST_AZBLOB
}

stop_s3() {
    local stand_in
    for stand_in in moto gcs azurite; do
        tests/lab/$stand_in.sh stop "$s3_directory/$stand_in"
    done
    tests/lab/rgw.sh stop "$s3_directory"
    rm -rf "$s3_directory"
}

# The Helm library and its validators, which need a newer Python than Debian 12 has.
install_helm_packages() {
    if tests/.helm/bin/python -c 'import helm_sdkpy, jsonschema, kubernetes_validate, yaml' 2> /dev/null; then
        return
    fi
    local python candidate
    for candidate in python3.14 python3.13 python3.12 python3 "$HOME"/.*/versions/3.1[2-9]*/bin/python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2> /dev/null; then
            python=$candidate
        fi
    done
    if [ -z "${python-}" ]; then
        tests/.venv/bin/pip install --quiet --disable-pip-version-check uv
        tests/.venv/bin/uv python install 3.12
        python=$(tests/.venv/bin/uv python find 3.12)
    fi
    rm -rf tests/.helm
    "$python" -m venv tests/.helm
    tests/.helm/bin/pip install --quiet --disable-pip-version-check \
        'helm-sdkpy>=0.1.32,<0.2' 'kubernetes-validate>=1.37,<2' 'jsonschema>=4,<5' 'pyyaml>=6,<7'
}
