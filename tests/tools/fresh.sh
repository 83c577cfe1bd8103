#!/bin/sh
# Proves `./bootstrap run` and `./bootstrap test`, each alone, in a minimal
# Debian: `./bootstrap fresh 12|13 [run|test]`. As root. The system lies in a
# temporary folder and in a mount namespace of its own, so nothing is left
# mounted; KEEP=1 keeps the folder. Where packages come from is read from this
# machine's /etc/apt.
set -eu

release=${1:-}
what=${2:-both}
case $release in
12) suite=bookworm ;;
13) suite=trixie ;;
*)
    echo "usage: ./bootstrap fresh 12|13 [run|test]" >&2
    exit 2
    ;;
esac
source=$(cd "$(dirname "$0")/../.." && pwd)

if [ -z "${PERIGEE_FRESH_NAMESPACE:-}" ]; then
    export PERIGEE_FRESH_NAMESPACE=1
    exec unshare --mount --propagation private sh "$0" "$@"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/perigee-fresh-$release.XXXXXX")
server=

finish() {
    status=$?
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
    fi
    for name in run test; do
        for part in proc sys dev/shm dev/pts dev; do
            umount -l "$work/$name/$part" 2>/dev/null || true
        done
    done
    if [ -n "${KEEP:-}" ]; then
        echo "kept: $work" >&2
    else
        rm -rf --one-file-system "$work"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() {
    printf '\033[1m==>\033[0m Debian %s: %s\n' "$release" "$*" >&2
}

# The first mirror that this machine's apt uses for Debian itself.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
    /etc/apt/sources.list.d/*.sources 2>/dev/null |
    sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb  *\(\[[^]]*\]  *\)\{0,1\}\([^ ]*\).*/\2/p' |
    grep '/debian/*$' | head -n 1)
if [ -z "$mirror" ]; then
    echo "no Debian mirror found in /etc/apt" >&2
    exit 1
fi

# A root with this machine's way to its registries: apt's proxy and keys, the
# certificates it trusts, npm's settings.
make_root() {
    root=$work/$1
    say "a minimal system for \`./bootstrap $1\`"
    if [ ! -d "$work/base" ]; then
        debootstrap --variant=minbase "$suite" "$work/base" "$mirror" \
            >"$work/debootstrap.log" 2>&1 || {
            tail -n 20 "$work/debootstrap.log" >&2
            exit 1
        }
        find /etc/apt/apt.conf.d -type f -exec grep -liE 'acquire|proxy' {} + |
            while read -r file; do
                cp "$file" "$work/base/etc/apt/apt.conf.d/"
            done
        cp /etc/resolv.conf "$work/base/etc/resolv.conf" 2>/dev/null || true
        # As Debian's installer writes it; debootstrap has none.
        if [ ! -e "$work/base/etc/hosts" ]; then
            printf '127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost\n' \
                >"$work/base/etc/hosts"
        fi
        if [ -n "${NODE_EXTRA_CA_CERTS:-}" ]; then
            cp "$NODE_EXTRA_CA_CERTS" "$work/base/root/extra-ca.crt"
        fi
        if [ -e "$HOME/.npmrc" ]; then
            cp "$HOME/.npmrc" "$work/base/root/.npmrc"
        fi
    fi
    cp -a "$work/base" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys" 2>/dev/null || true
    mount --rbind /dev "$root/dev"
    mkdir "$root/perigee"
    (cd "$source" && tar -c --exclude=./build --exclude=./var \
        --exclude=node_modules --exclude=./.git .) | tar -x -C "$root/perigee"
}

# Becomes a shell of the new system, knowing little of this one: for subshells
# and the background.
inside() {
    root=$1
    shift
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        ${CI:+CI="$CI"} \
        ${NODE_EXTRA_CA_CERTS:+NODE_EXTRA_CA_CERTS=/root/extra-ca.crt} \
        ${http_proxy:+http_proxy="$http_proxy"} \
        ${https_proxy:+https_proxy="$https_proxy"} \
        chroot "$root" sh -c "cd /perigee && $*"
}

# An HTTP status line by nothing but bash, which a minimal Debian has.
probe() {
    bash -c 'exec 3<>/dev/tcp/127.0.0.1/'"$1"' &&
        printf "GET / HTTP/1.0\r\nHost: x\r\n\r\n" >&3 && head -n 1 <&3' \
        2>/dev/null
}

prove_run() {
    make_root run
    port=$((20000 + $$ % 20000))
    say "./bootstrap run"
    inside "$work/run" "PERIGEE_ADMIN__PORT=0 exec ./bootstrap run -p $port" \
        >"$work/run.log" 2>&1 </dev/null &
    server=$!
    tries=0
    while [ "$tries" -lt 900 ]; do
        if line=$(probe "$port") && [ -n "$line" ]; then
            break
        fi
        if ! kill -0 "$server" 2>/dev/null; then
            break
        fi
        sleep 1
        tries=$((tries + 1))
    done
    case ${line:-} in
    "HTTP/1."*" 200 "*) say "serves: $line" ;;
    *)
        tail -n 40 "$work/run.log" >&2
        say "./bootstrap run does not serve: ${line:-no answer}"
        exit 1
        ;;
    esac
    kill -TERM "$server"
    wait "$server" || {
        tail -n 20 "$work/run.log" >&2
        say "it did not stop with 0"
        exit 1
    }
    server=
}

prove_test() {
    make_root test
    say "./bootstrap test"
    (inside "$work/test" exec ./bootstrap test) </dev/null
}

case $what in
run) prove_run ;;
test) prove_test ;;
both)
    prove_run
    prove_test
    ;;
esac
say "proved: $what"
