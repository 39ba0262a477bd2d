#!/bin/sh
# What the machine does at its first boot, as root. Lightsail puts lines of its own above these and runs all with
# /bin/sh; the end of it is the file /var/lib/twinmail-ready. What it says is in /var/log/cloud-init-output.log.
set -eu
export DEBIAN_FRONTEND=noninteractive

# Memory for a moment when everything happens at once.
if [ ! -e /swapfile ]; then
    fallocate -l 1024M /swapfile
    chmod 0600 /swapfile
    mkswap /swapfile
    swapon /swapfile
    echo '/swapfile none swap sw 0 0' >>/etc/fstab
fi

# Containers without privileges listen on the machine's ports, from 80 on.
cat >/etc/sysctl.d/60-twinmail.conf <<'END'
net.ipv4.ip_unprivileged_port_start = 80
vm.swappiness = 10
END
sysctl --quiet --load /etc/sysctl.d/60-twinmail.conf

# Containers outlive an update of the engine.
install -d -m 0755 /etc/docker
cat >/etc/docker/daemon.json <<'END'
{"live-restore": true, "userland-proxy": false, "log-driver": "local"}
END

. /etc/os-release
compose=docker-compose
case "$ID $VERSION_CODENAME" in
"debian bookworm")
    # It has Compose of the first generation only: this one package, and what it needs, is the next release's.
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
        [ -e "$file" ] || continue
        sed 's/bookworm/trixie/g' "$file" >"/etc/apt/sources.list.d/trixie.${file##*.}"
    done
    cat >/etc/apt/preferences.d/trixie <<'END'
Package: *
Pin: release n=trixie*
Pin-Priority: 50

Package: docker-compose
Pin: release n=trixie*
Pin-Priority: 600
END
    ;;
ubuntu\ *)
    compose=docker-compose-v2
    ;;
esac
apt-get update
apt-get install -y --no-install-recommends ca-certificates docker.io iptables "$compose" unattended-upgrades
docker compose version

# Security updates by themselves, and a new kernel at night.
cat >/etc/apt/apt.conf.d/20auto-upgrades <<'END'
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
END
cat >/etc/apt/apt.conf.d/52twinmail <<'END'
Unattended-Upgrade::Automatic-Reboot "true";
Unattended-Upgrade::Automatic-Reboot-Time "04:30";
END

install -d -m 0750 -o 1000 -g 1000 /srv/twinmail
touch /var/lib/twinmail-ready
