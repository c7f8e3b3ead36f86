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
    # For its first second the process may still be the shell that becomes the server.
    running "$1" || ((tries < 5)) || break
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

# What `provide` started, to be stopped at the end: `trap stop_started EXIT`.
started=()

stop_started() {
  local server
  for server in "${started[@]}"; do
    "$root/scripts/$server" stop || say "scripts/$server stop failed"
  done
}

# provide VARIABLE SERVER: sets the variable, unless it is set, to what `scripts/SERVER start` prints.
provide() {
  local address was_running=no
  if [[ -z ${!1:-} ]]; then
    ! running "$servers/$2" || was_running=yes
    if address=$("scripts/$2" start); then
      [[ $was_running == yes ]] || started+=("$2")
      export "$1=$address"
    elif [[ ${CI:-} == true && $1 != MYSQL_URL ]]; then
      die "scripts/$2 start failed, and under CI=true nothing may be skipped"
    else
      say "skipped: what needs $1: scripts/$2 start failed, and it is not set"
      return 0
    fi
  fi
  say "$1=${!1}"
}

# was_started SERVER: whether `provide` started it.
was_started() {
  local server
  for server in "${started[@]}"; do
    [[ $server != "$1" ]] || return 0
  done
  return 1
}
