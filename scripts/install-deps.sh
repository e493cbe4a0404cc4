#!/usr/bin/env bash
# Installs what skep needs and is missing, on Debian and what is made of it.
#
#   scripts/install-deps.sh           installs; says so and changes nothing if nothing is missing
#   scripts/install-deps.sh --check   lists what is missing; status 1 if that is anything
#   scripts/install-deps.sh --for FILE   prints how all of it is installed on the distribution of an os-release file
#
# On other distributions it prints the packages to install, and ends with status 3, as it does where the distribution's own
# QEMU is too old.
set -euo pipefail
export LC_ALL=C
# mke2fs and its like are there even where a user's path leaves them out.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# What each thing is found by, and Debian's package that has it.
needs=(
    qemu=qemu-system-x86 qemu-img=qemu-utils
    mmdebstrap=mmdebstrap mke2fs=e2fsprogs xz=xz-utils
    /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring
    ip=iproute2 nft=nftables iptables=iptables
    sudo=sudo newuidmap=uidmap ssh=openssh-client curl=curl /etc/ssl/certs/ca-certificates.crt=ca-certificates
)
missing=()
scratch=
os_release=/etc/os-release

main() {
    local check=
    case ${1-} in
    '') ;;
    --check) check=1 ;;
    --for)
        os_release=${2?--for takes a file}
        if ! say_too_old; then
            for need in "${needs[@]}"; do missing+=("${need#*=}"); done
            missing+=(gcc libc6-dev)
            say_for_others
        fi
        exit 0
        ;;
    *)
        echo "usage: scripts/install-deps.sh [--check | --for FILE]" >&2
        exit 2
        ;;
    esac
    find_missing
    if [ "${#missing[@]}" = 0 ]; then
        echo "install-deps: nothing is missing"
        return
    fi
    if [ -n "$check" ]; then
        printf '%s\n' "${missing[@]}"
        exit 1
    fi
    case " ${missing[*]} " in
    *' qemu-'*) if say_too_old; then exit 3; fi ;;
    esac
    if ! command -v apt-get >/dev/null; then
        say "packages are installed by this script on Debian and what is made of it only"
        say_for_others
        exit 3
    fi
    become_root
    trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT
    install_missing
    find_missing
    if [ "${#missing[@]}" != 0 ]; then
        say "still missing after the installation: ${missing[*]}"
        exit 1
    fi
}

say() {
    echo "install-deps: $*" >&2
}

find_missing() {
    local need
    missing=()
    for need in "${needs[@]}"; do
        case $need in
        qemu=*) command -v qemu-system-x86_64 || command -v qemu-kvm || [ -x /usr/libexec/qemu-kvm ] ;;
        /*) [ -s "${need%%=*}" ] ;;
        *) command -v "${need%%=*}" >/dev/null ;;
        esac >/dev/null || missing+=("${need#*=}")
    done
    # A compiler without the C library's files cannot link what cargo builds.
    if ! echo 'int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null; then
        missing+=(gcc libc6-dev)
    fi
}

become_root() {
    as_root=()
    [ "$(id -u)" != 0 ] || return 0
    if ! command -v sudo >/dev/null; then
        say "installing packages needs root; run this as root:"
        say "    apt-get install --no-install-recommends ${missing[*]}"
        exit 3
    fi
    as_root=(sudo)
    # Asks for the password here, where a refusal is the end.
    sudo true || exit 3
}

# Runs apt-get as root, asking nothing.
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get \
        -o Acquire::Retries=1 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 \
        -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 -q "$@"
}

install_missing() {
    local package others=() qemu=() version
    say "installing: ${missing[*]}"
    # A source of somebody else's that is out of reach is no reason to stop: Debian's may do.
    if ! apt update --error-on=any; then
        say "warning: not every apt source of this host could be read; going on with those that could"
    fi
    for package in "${missing[@]}"; do
        case $package in
        qemu-*) qemu+=("$package") ;;
        *) others+=("$package") ;;
        esac
    done
    if [ "${#others[@]}" != 0 ]; then
        apt install -y --no-install-recommends "${others[@]}"
    fi
    if [ "${#qemu[@]}" != 0 ]; then
        version=$(installed_qemu)
        if [ -n "$version" ] && dpkg --compare-versions "$version" gt "$(candidate "${qemu[0]}")"; then
            install_matching_qemu "$version" "${qemu[@]}"
        else
            apt install -y --no-install-recommends "${qemu[@]}"
        fi
    fi
}

# Prints the version of the parts of QEMU that are installed, or nothing.
installed_qemu() {
    local package found
    for package in qemu-utils qemu-system-common qemu-system-x86; do
        # shellcheck disable=SC2016 # The fields are dpkg's.
        found=$(dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$package" 2>/dev/null) || continue
        if [ "${found%% *}" = installed ]; then
            echo "${found#* }"
            return
        fi
    done
}

# Prints the version of a package that apt would install; 0 if there is none.
candidate() {
    local version
    version=$(apt-cache policy "$1" | sed -n 's/^ *Candidate: //p')
    case $version in
    '' | '(none)') echo 0 ;;
    *) echo "$version" ;;
    esac
}

# The parts of QEMU are of one version, or apt takes one away for the other: qemu-utils from
# backports and qemu-system-x86 from the release clash. The rest is taken from where the first
# part came from, and what is installed is not turned back.
install_matching_qemu() {
    local version=$1 package
    shift
    say "QEMU $version is partly installed and newer than what apt would add to it ($(candidate "$1"))"
    if apt-cache madison "$1" | grep -qF "| $version |"; then
        say "the same version is in the configured sources, and is taken"
        local exact=()
        for package in "$@" qemu-system-common qemu-system-data; do exact+=("$package=$version"); done
        apt install -y --no-install-recommends "${exact[@]}"
        return
    fi
    local codename suite
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
    suite=$codename-backports
    write_sources "$suite"
    say "taking QEMU from $suite through a temporary list of sources; this host's own lists stay as they are"
    local private=(
        -o "Dir::Etc::sourcelist=$scratch/sources.list" -o "Dir::Etc::sourceparts=$scratch/none"
        -o "Dir::State::lists=$scratch/lists"
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    )
    apt "${private[@]}" update
    # qemu-utils is named too: backports may have moved on, and then it moves with the rest.
    apt "${private[@]}" install -y --no-install-recommends -t "$suite" "$@" qemu-utils
}

# Writes a list of Debian's sources as this host has them, and one more suite from the same mirror.
write_sources() {
    local suite=$1 origin codename uri mirror='' options
    options="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    scratch=$(mktemp -d)
    # apt fetches as a user of its own.
    chmod 755 "$scratch"
    mkdir "$scratch/none" "$scratch/lists"
    # shellcheck disable=SC2016 # The fields are apt's.
    apt-get indextargets 'Created-By: Packages' --format '$(ORIGIN)|$(RELEASE)|$(REPO_URI)' |
        sort -u >"$scratch/targets"
    while IFS='|' read -r origin codename uri; do
        [ "$origin" = Debian ] || continue
        [ "$codename" != "$suite" ] || continue
        echo "deb $options $uri $codename main"
        case $codename in
        *-*) ;;
        *) mirror=$uri ;;
        esac
    done <"$scratch/targets" >"$scratch/sources.list"
    if [ -z "$mirror" ]; then
        say "no source of Debian itself is configured on this host, so the QEMU that fits is not known;"
        say "install qemu-system-x86 and qemu-utils of one version, and run this again"
        exit 1
    fi
    echo "deb $options $mirror $suite main" >>"$scratch/sources.list"
}

# Prints a field of the distribution's os-release file.
release() {
    sed -n "s/^$1=//p" "$os_release" 2>/dev/null | head -n 1 | tr -d "\"'"
}

# Prints the family of the distribution: debian, fedora, rhel, arch, suse, or nothing.
family() {
    local id
    for id in $(release ID) $(release ID_LIKE); do
        case $id in
        debian | ubuntu) echo debian ;;
        fedora) echo fedora ;;
        rhel | centos | almalinux | rocky) echo rhel ;;
        arch) echo arch ;;
        suse | opensuse* | sle*) echo suse ;;
        *) continue ;;
        esac
        return
    done
}

# Says so where the distribution's QEMU is older than 7.2, which skep needs: to install it would not help.
say_too_old() {
    local id version oldest
    id=$(release ID) version=$(release VERSION_ID)
    case $id:$(family) in
    ubuntu:*) oldest=23.04 ;;
    debian:*) oldest=12 ;;
    fedora:*) oldest=38 ;;
    *:rhel) oldest=9.2 ;;
    opensuse-leap:*) oldest=15.6 ;;
    *) return 1 ;;
    esac
    if [ -z "$version" ] || [ "$(printf '%s\n' "$oldest" "$version" | sort -V | head -n 1)" = "$oldest" ]; then
        return 1
    fi
    say "the QEMU of $(release PRETTY_NAME) is older than 7.2, which skep needs; nothing was installed"
    say "Debian 12, Ubuntu 24.04, Fedora 38, RHEL 9.2 and openSUSE Leap 15.6, and what is newer, have one that will do"
}

# Prints the names of Debian's packages in a family; what has no name of its own there has Debian's.
names_in() {
    local family=$1 package
    shift
    for package in "$@"; do
        case $family:$package in
        debian:*) echo "$package" ;;
        fedora:qemu-system-x86) echo qemu-system-x86-core ;;
        rhel:qemu-system-x86) echo qemu-kvm-core ;;
        arch:qemu-system-x86) echo qemu-base ;;
        suse:qemu-system-x86) echo qemu-x86 ;;
        *:qemu-utils) echo qemu-img ;;
        fedora:iproute2 | rhel:iproute2) echo iproute ;;
        arch:openssh-client) echo openssh ;;
        *:openssh-client) echo openssh-clients ;;
        *:xz-utils) echo xz ;;
        fedora:uidmap | rhel:uidmap) echo shadow-utils ;;
        *:uidmap) echo shadow ;;
        fedora:iptables | rhel:iptables) echo iptables-nft ;;
        arch:libc6-dev) ;;
        *:libc6-dev) echo glibc-devel ;;
        # What the keys of Debian's archive are in; the AUR and others are named apart.
        fedora:debian-archive-keyring | rhel:debian-archive-keyring) echo debian-keyring ;;
        suse:debian-archive-keyring | suse:mmdebstrap | arch:mmdebstrap) ;;
        *) echo "$package" ;;
        esac
    done | paste -sd ' '
}

say_for_others() {
    local family names
    family=$(family)
    names=$(names_in "$family" "${missing[@]}")
    say "on $(release PRETTY_NAME | grep . || echo this distribution) run"
    case $family in
    debian) say "    apt-get install --no-install-recommends $names" ;;
    fedora) say "    dnf install $names" ;;
    rhel)
        if [ "$(release ID)" = rhel ]; then
            local major
            major=$(release VERSION_ID) major=${major%%.*}
            say "    subscription-manager repos --enable codeready-builder-for-rhel-$major-x86_64-rpms"
            say "    dnf install https://dl.fedoraproject.org/pub/epel/epel-release-latest-$major.noarch.rpm"
        else
            say "    dnf install dnf-plugins-core epel-release && dnf config-manager --set-enabled crb"
        fi
        say "    dnf install $names"
        say "mmdebstrap and debian-keyring are in EPEL, if they are there for this release"
        ;;
    arch)
        say "    pacman -S --needed $names"
        say "and mmdebstrap, which is in the AUR"
        ;;
    suse)
        say "    zypper install $names"
        say "and mmdebstrap with the keys of the Debian archive (debian-archive-keyring), as your repositories have them"
        ;;
    *) say "whatever installs these, under the names that they have there: ${missing[*]}" ;;
    esac
}

main "$@"
