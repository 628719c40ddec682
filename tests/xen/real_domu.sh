#!/bin/sh
# SPDX-License-Identifier: ISC
# The guest's init: the kernel's arguments say which part it is to play. Every step is one line "ok NAME" or "FAILED NAME".
# The devices: xvda a loop file with flush, xvdb one without, xvdc a RAM disk (without), xvdd of 4 KiB sectors, xvde a
# read-only image, xvdf the one that the guest is killed over.
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t tmpfs tmpfs /tmp
/bin/busybox --install -s /bin
exec </dev/console >/dev/console 2>&1
export PATH=/bin HOME=/tmp TMPDIR=/tmp CAMBIUM_AUTHOR=real
mkdir -p /dev/xen
mount -t xenfs xenfs /proc/xen 2>/dev/null
for module in /modules/*; do insmod "$module" || echo "FAILED insmod $module"; done

failures=0
step()
{
    name=$1 began=$(cut -d' ' -f1 /proc/uptime)
    shift
    echo "\$ $*"
    # The pipe keeps it from taking the console for somebody who wants to see progress.
    { "$@" 2>&1; echo $? >/tmp/status; } | cat
    status=$(cat /tmp/status)
    [ "$status" = 0 ] || { echo "FAILED $name: status $status"; failures=$((failures + 1)); return 1; }
    echo "ok $name: $(cut -d' ' -f1 /proc/uptime | awk -v b="$began" '{ printf "%.1f", $1 - b }') s"
}

conformance()
{
    conform mem:4M /tmp/file xen:xvda 'xen:xvda?ring=3&queues=4&segments=11' 'xen:xvda?persistent=0&pool=64' \
        'xen:xvda?loopback=mem:4M' xen:xvdb xen:xvdc xen:xvdd
}

# What cannot be written is refused, what cannot be flushed as well, and what is there can be read.
refusals()
{
    [ "$(cambium get xen:xvde greeting)" = 'hello from dom0' ] || return 1
    cambium fsck xen:xvde --full || return 1
    cambium put xen:xvde greeting mine && return 1
    cambium init xen:xvdb --force && cambium put xen:xvdb k v && return 1
    cambium get xen:xvdx k && return 1
    return 0
}

model() { CMB_TEST_DEVICE=$1 test_model scripts_agree_with_the_model_on_the_device_that_is_named; }

load()
{
    image=$1
    cambium init "$image" --force && cambium load "$image" --tsv -m first /pairs/first || return 1
    for n in 1 2 3; do
        cambium branch "$image" create "side$n" && cambium load "$image" -b "side$n" --tsv -m "side $n" "/pairs/side$n" || return 1
    done
    cambium put "$image" 'a key' 'of main' -m 'main goes on' || return 1
    for n in 1 2 3; do cambium merge "$image" "side$n" -m "merge $n" || return 1; done
    cambium dump "$image" --tsv | cmp - /pairs/merged && echo 'the dump is as it should be'
}

# The kernel's own front end drives xvdf, ours xvda: both are files in the same memory.
speed()
{
    insmod /speed/*.ko
    tries=0
    until [ -b /dev/xvda ] && [ -b /dev/xvdf ]; do
        tries=$((tries + 1))
        [ $tries -lt 60 ] || return 1
        sleep 0.5
    done
    cambium stat xen:xvda && return 1 # the kernel has it
    echo vbd-51712 >/sys/bus/xen/drivers/vbd/unbind
    bench-xen --against '/dev/xvdf?io=uring' xen:xvda 6
}

# shellcheck disable=SC2013 # words
for word in $(cat /proc/cmdline); do
    case $word in
    part=*) part=${word#part=} ;;
    least=*) least=${word#least=} ;;
    esac
done
case $part in
tests)
    step conformance conformance
    step refusals refusals
    step 'load, branches, merges' load xen:xvda
    step fsck cambium fsck xen:xvda --full
    step 'model test' model xen:xvda
    step 'model test, 4 KiB sectors' model xen:xvdd
    ;;
write)
    step 'an image' cambium init xen:xvdf --force
    echo 'domU: writes until it is killed'
    real-commits write xen:xvdf
    failures=1
    ;;
check)
    step 'what was acknowledged is there' real-commits check xen:xvdf "$least"
    step 'fsck after the kill' cambium fsck xen:xvdf --full
    ;;
speed)
    step 'beside the kernel' speed
    ;;
esac
echo "domU $part: done, $failures failed"
sleep 1
poweroff -f
