#!/bin/sh
# SPDX-License-Identifier: ISC
# dom0's init: makes the devices, lets guests run over them through the kernel's blkback, kills one of them, and tells
# what the back ends say. Lines of the guests' consoles begin with "domU| ".
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /bin /sbin /var/lib/xenstored /var/lib/xen /var/run /var/log/xen/console /etc/xen/scripts /images
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
exec </dev/console >/dev/console 2>&1
export PATH=/bin:/sbin LD_LIBRARY_PATH=/lib TMPDIR=/tmp
mkdir -p /run/xen /run/xenstored /var/run/xen /var/run/xenstored /var/run/xen-hotplug
mount -t tmpfs -o size=90% tmpfs /images
for module in /modules/*; do
    case $module in
    *xen-blkback*) set -- max_queues=4 ;; # of one processor it would make one
    *null_blk*) set -- nr_devices=0 ;;
    *) set -- ;;
    esac
    insmod "$module" "$@" || echo "dom0: FAILED: insmod $module"
done
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t xenfs xenfs /proc/xen
: >/etc/xen/xl.conf
mount -t configfs configfs /sys/kernel/config

fail() { echo "dom0: FAILED: $1"; }
xenstored --pid-file /run/xenstored.pid || fail xenstored
tries=0
until xenstore-read -s / >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || { fail 'xenstored does not answer'; poweroff -f; }
    sleep 0.5
done
xen-init-dom0 || fail xen-init-dom0
xenconsoled --log=guest --log-dir=/var/log/xen/console --pid-file=/run/xenconsoled.pid || fail xenconsoled

file() { truncate -s "$2" "/images/$1" && losetup "$3" "/images/$1"; }
file flush 512M /dev/loop0
file bare 64M /dev/loop1
echo 'write through' >/sys/block/loop1/queue/write_cache
file killed 256M /dev/loop3
four=/sys/kernel/config/nullb/four
mkdir "$four"
for set in blocksize=4096 size=256 cache_size=4 memory_backed=1 power=1; do echo "${set#*=}" >"$four/${set%=*}"; done
null=/dev/four
[ -b $null ] || null=/dev/nullb$(cat "$four/index") # named so by older kernels
cambium init /images/read-only --size 16M && cambium put /images/read-only greeting 'hello from dom0' -m dom0
losetup -r /dev/loop2 /images/read-only
truncate -s 16M /images/raw && losetup /dev/loop4 /images/raw
echo 'dom0: the same script on devices without Xen between:'
conform mem:4M /images/plain "$null" /dev/loop4 || fail 'conformance in dom0'

# guest NAME PART [ARGUMENT]: starts it.
guest()
{
    cat >"/tmp/$1.cfg" <<END
name = "$1"
type = "@TYPE@"
kernel = "/guest/kernel"
ramdisk = "/guest/initramfs"
extra = "console=hvc0 loglevel=4 panic=1 mitigations=off part=$2 $3"
memory = 256
vcpus = 1
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
disk = [ "format=raw,vdev=xvda,access=rw,backendtype=phy,target=/dev/loop0",
         "format=raw,vdev=xvdb,access=rw,backendtype=phy,target=/dev/loop1",
         "format=raw,vdev=xvdc,access=rw,backendtype=phy,target=/dev/ram0",
         "format=raw,vdev=xvdd,access=rw,backendtype=phy,target=$null",
         "format=raw,vdev=xvde,access=ro,backendtype=phy,target=/dev/loop2",
         "format=raw,vdev=xvdf,access=rw,backendtype=phy,target=/dev/loop3" ]
END
    log=/var/log/xen/console/guest-$1.log
    shown=0
    : >"$log"
    xl create -q "/tmp/$1.cfg" || fail "xl create $1"
}

# The lines of the guest's console that have not been shown.
show()
{
    lines=$(wc -l <"$log")
    [ "$lines" -le "$shown" ] || sed -n "$((shown + 1)),${lines}p" "$log" | tr -d '\r' | grep -v '^acknowledged' | sed 's/^/domU| /'
    shown=$lines
}

here() { xl domid "$1" >/dev/null 2>&1; }
finish()
{
    while here "$1"; do show; sleep 1; done
    sleep 1
    show
}

guest tests tests
finish tests

guest victim write
acknowledged() { tr -d '\r' <"$log" | sed -n 's/^acknowledged \([0-9]*\)$/\1/p' | tail -1; }
commits=@COMMITS@
while here victim; do
    n=$(acknowledged)
    [ "${n:-0}" -lt "$commits" ] || break
    show
    sleep 0.3
done
echo 'dom0: what the two ends have agreed on:'
for path in "/local/domain/$(xl domid victim)/device/vbd/51792" "/local/domain/0/backend/vbd/$(xl domid victim)/51792"; do
    xenstore-ls "$path" | sed "s#^#xenstore| $path #"
done
xl debug-keys e # the hypervisor prints all event channels
xl destroy victim || fail 'xl destroy'
while here victim; do sleep 0.3; done
sleep 1
show
n=$(acknowledged)
echo "dom0: the guest was killed; the last commit that it acknowledged is $n"

guest heir check "least=${n:-0}"
finish heir

if [ -x /bin/bench-xen ]; then
    for device in /dev/loop0 /dev/loop3; do dd if=/dev/zero of="$device" bs=1M count=64 2>/dev/null; done
    guest runner speed
    finish runner
fi

echo 'dom0: what blkback says:'
dmesg | grep -i -e blkback -e 'backend/vbd' | sed 's/^/blkback| /'
echo 'dom0: done'
sync
poweroff -f
