# shellcheck shell=bash
# What the scripts share: messages, Debian packages, Python environments, a private broker. Sourced, not run.

repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

is_installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# need_debian_packages NAME...: installs what is missing, and nothing it installs starts to run.
need_debian_packages() {
    local package missing=()
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    ((EUID == 0)) ||
        die "missing Debian packages: ${missing[*]} (run this once as root, or: sudo apt-get install ${missing[*]})"
    say "installing ${missing[*]}"
    install_without_starting "${missing[@]}" >&2
}

# need_programs: what every script starts and what a build needs, on a machine that has a Rust toolchain and
# nothing else. The linker and the C compiler are gcc's (rustls' crypto provider is partly written in C);
# `kill` is of procps, the certificates are those that cargo and pip check their registries with.
need_programs() {
    need_debian_packages bash ca-certificates coreutils diffutils findutils gcc git grep libc6-dev procps sed \
        util-linux "$@"
    command -v cargo >/dev/null ||
        die "no cargo on the PATH: install a Rust toolchain first (1.88 or newer), for instance with rustup"
}

# need_python: a Python 3 that can make environments of its own.
need_python() {
    python3 -c 'import ensurepip' 2>/dev/null || need_debian_packages python3 python3-venv
}

# The broker's packages come with services (5672 and 4369, at once and at every boot).
# We only want the programs; services that were there before are left as they are.
install_without_starting() (
    local service fresh=()
    is_installed rabbitmq-server || fresh+=(rabbitmq-server)
    is_installed erlang-base || fresh+=(epmd)

    trap allow_services EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    hold_services
    export DEBIAN_FRONTEND=noninteractive
    # The lists of a fresh machine may be empty or old: fetch them only if need be.
    apt-get install -y -q --no-install-recommends "$@" || {
        apt-get update -q
        apt-get install -y -q --no-install-recommends "$@"
    }
    for service in "${fresh[@]}"; do
        keep_from_starting_at_boot "$service"
    done
)

policy=/usr/sbin/policy-rc.d

# While this policy is in place the two services are not started; for all others an older policy still speaks.
hold_services() {
    if [[ -e $policy && ! -e $policy.before ]]; then mv "$policy" "$policy.before"; fi
    cat >"$policy" <<POLICY
#!/bin/sh
case "\$1" in rabbitmq-server* | epmd*) exit 101 ;; esac
if [ -x $policy.before ]; then exec $policy.before "\$@"; fi
POLICY
    chmod 755 "$policy"
}

allow_services() {
    rm -f "$policy"
    if [[ -e $policy.before ]]; then mv "$policy.before" "$policy"; fi
}

keep_from_starting_at_boot() {
    local unit
    if command -v systemctl >/dev/null; then
        for unit in "$1.service" "$1.socket"; do
            [[ ! -e /lib/systemd/system/$unit ]] || systemctl disable --quiet "$unit"
        done
    fi
    [[ ! -e /etc/init.d/$1 ]] || update-rc.d "$1" disable
}

# start_broker DIR: a private broker that goes away with this script; sets amqp_port.
start_broker() {
    broker_dir=$1
    # shellcheck disable=SC2034 # for the script that sources this
    amqp_port=$("$repo/scripts/broker" start "$broker_dir" $$)
}

stop_broker() {
    [[ -z ${broker_dir:-} ]] || "$repo/scripts/broker" remove "$broker_dir"
    broker_dir=
}

# start_test_broker DIR: the same, and tells the programs in tests/ and benches/ where it is.
start_test_broker() {
    say "starting a private broker"
    start_broker "$1"
    # A URI writes the vhost "/" as %2f, oslo.messaging as a second slash.
    export CINDER_PROGRESS_TEST_AMQP=amqp://guest:guest@127.0.0.1:$amqp_port/%2f
    export CINDER_PROGRESS_TEST_TRANSPORT_URL=rabbit://guest:guest@127.0.0.1:$amqp_port//
    export CINDER_PROGRESS_TEST_BROKER_DIR=$broker_dir
}

# python_env NAME [PYTHON]: .venv-NAME in the repository, with exactly what tests/peers/requirements-NAME.txt
# pins; sets python to its interpreter. At once when nothing has changed since the last time.
python_env() {
    local name=$1 base=${2:-python3}
    local env=$repo/.venv-$name wanted=$repo/tests/peers/requirements-$1.txt
    python=$env/bin/python
    # The copy is made last: an environment left half-made has none.
    ! cmp -s "$wanted" "$env/requirements.txt" || return 0
    say "making the Python environment $name"
    rm -rf "$env"
    if "$base" -c 'import venv' 2>/dev/null; then
        "$base" -m venv "$env"
        "$python" -m pip install -q --disable-pip-version-check --no-deps -r "$wanted" >&2
    else
        python2_env "$env" "$base" "$wanted"
    fi
    cp "$wanted" "$env/requirements.txt"
}

# Python 2.7 has no venv: a user's folder of packages, and an interpreter of which it is the user's. Unlike
# PYTHONPATH it may hold packages that share a namespace.
python2_env() {
    local step env=$1 base=$2 wanted=$3
    mkdir -p "$env/bin"
    printf '#!/bin/sh\nPYTHONUSERBASE=%q exec %q "$@"\n' "$env" "$base" >"$env/bin/python"
    chmod 755 "$env/bin/python"
    # These go first: the builds of some of the others import them.
    for step in <(grep -E "^(pbr|pytz)==" "$wanted") "$wanted"; do
        "$env/bin/python" -W ignore -m pip install -q --disable-pip-version-check --no-deps \
            --ignore-installed --no-warn-script-location --user -r "$step" >&2
    done
}

# install_contrib NAME FOLDER: the distribution in contrib/NAME, with $python. The build happens in a copy, so that
# nothing is left in the repository.
install_contrib() {
    local copy
    copy=$(mktemp -d)
    cp -r "$repo/contrib/$1/." "$copy"
    "$python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation --target "$2" "$copy" >&2
    rm -rf "$copy"
}

# The path of a Python 2.7 that has pip, or nothing.
find_python2() {
    local candidate
    for candidate in "$(command -v python2.7)" "$HOME"/.pyenv/versions/2.7*/bin/python2.7; do
        if "$candidate" -m pip --version >/dev/null 2>&1; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

# The RabbitMQ of this Debian, and where the newer ones lie.
installed_version=3.10
broker_roots=$repo/.roots

# make_broker_root VERSION: the programs of a newer Debian's rabbitmq-server, unpacked and nothing more. At once
# when it is there.
make_broker_root() {
    local suite root=$broker_roots/rabbitmq-$1
    case $1 in
        4.0) suite=trixie ;;
        4.3) suite=forky ;;
        *) die "RabbitMQ $1: only $installed_version, 4.0 and 4.3 can be had" ;;
    esac
    [[ ! -e $root/made ]] || return 0
    ((EUID == 0)) || die "RabbitMQ $1 runs from a root of its own: run this as root"
    need_debian_packages mmdebstrap util-linux
    mkdir -p "$broker_roots"
    # Several may want it at once.
    (
        flock 9
        [[ ! -e $root/made ]] || exit 0
        say "unpacking RabbitMQ $1 of Debian $suite"
        rm -rf "$root"
        debian_root --variant=extract --include=rabbitmq-server,bash,dash,coreutils,sed,grep,mawk,hostname "$suite" "$root"
        mkdir -p "$root"/{dev,proc,tmp}
        # What the packages' own scripts would have linked.
        ln -sf mawk "$root/usr/bin/awk"
        ln -sf dash "$root/usr/bin/sh"
        echo '127.0.0.1 localhost' >"$root/etc/hosts"
        touch "$root/made"
    ) 9>"$broker_roots/lock" >&2
}

# make_prometheus: Debian's prometheus and promtool, unpacked into .roots and not installed, because the package comes
# with a service; sets prometheus to their folder, or to nothing where the package cannot be had.
make_prometheus() {
    local folder=$broker_roots/prometheus scratch
    prometheus=$folder/usr/bin
    [[ ! -e $folder/made ]] || return 0
    say "unpacking Debian's prometheus"
    scratch=$(mktemp -d)
    # apt's own user writes the package.
    chmod 755 "$scratch"
    if (cd "$scratch" && { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; }) \
        >/dev/null 2>&1; then
        rm -rf "$folder"
        mkdir -p "$folder"
        dpkg-deb -x "$scratch"/prometheus_*.deb "$folder"
        touch "$folder/made"
    else
        say "no package prometheus here: the tests with it are left out"
        # shellcheck disable=SC2034 # for the script that sources this
        prometheus=
    fi
    rm -rf "$scratch"
}

debian_keys=/usr/share/keyrings/debian-archive-keyring.gpg

# debian_root ARGS... SUITE ROOT: mmdebstrap of that suite of Debian, from where this machine has its packages and
# the way it reaches them.
debian_root() {
    local file codename line options=() suite=${*: -2:1}
    codename=$(source /etc/os-release && echo "$VERSION_CODENAME")
    line=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 'Component: main' |
        awk -v suite="$suite" -v here="$codename" -v keys="$debian_keys" '
            $1 == here { print "deb [signed-by=" keys "] " $2, suite, "main"; exit }')
    [[ -n $line ]] || die "no package source for $codename in /etc/apt: none to take $suite from"
    for file in /etc/apt/apt.conf.d/*; do
        if grep -qE '^ *Acquire' "$file"; then options+=("--aptopt=$file"); fi
    done
    mmdebstrap --quiet "${options[@]}" "$@" "$line" >&2
}
