# shellcheck shell=bash
# What the scripts that run a private server share; sourced, never run.
# A server has a directory below target/servers with its data, its log and a file `pid`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # used by those who source this
servers=$root/target/servers
# Where Debian keeps servers.
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): $*"
  exit 1
}

has() { command -v "$1" >/dev/null; }

# running DIR: whether the process named in DIR/pid lives and is still the server of DIR.
running() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) || return 1
  [[ -n $pid && -r /proc/$pid/cmdline ]] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "$1"
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# wait_for_port DIR PORT: until the server accepts connections; at most a minute.
wait_for_port() {
  local tries
  for ((tries = 0; tries < 300; tries++)); do
    running "$1" || break
    port_open "$2" && return
    sleep 0.2
  done
  tail -n 20 "$1/log" >&2 || true
  die "no server on port $2; its log is $1/log"
}

# stop_server DIR: ends the server of DIR by its id; at most half a minute for it to finish.
stop_server() {
  local pid tries
  running "$1" || return 0
  pid=$(cat "$1/pid")
  kill "$pid"
  for ((tries = 0; tries < 150; tries++)); do
    running "$1" || break
    sleep 0.2
  done
  running "$1" && kill -KILL "$pid"
  rm -f "$1/pid"
}

# report DIR: says whether the server of DIR runs, also as the exit status.
report() {
  if running "$1"; then
    echo "running, process $(cat "$1/pid")"
  else
    echo "stopped"
    return 1
  fi
}

# apt_install PACKAGE…: installs what is missing, where that is allowed.
apt_install() {
  if ((EUID != 0)) || ! has apt-get; then
    die "install $* first (this needs root and apt-get)"
  fi
  say "installing $*"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy "$@"; } >&2
}
