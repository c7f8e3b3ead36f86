# shellcheck shell=bash
# What the scripts share; sourced, never run.
# A private server has a directory below target/servers with its data, its log, its port and a file `pid`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # used by the scripts that source this
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

# choose_port VARIABLE PORT COUNT: sets `port` to what the variable names, which must be free, else to the
# first from PORT on that is free together with the COUNT - 1 after it. Descriptor 9 is a lock that keeps
# others from choosing the same until this script has started its server, which must not inherit it.
choose_port() {
  exec 9>"${TMPDIR:-/tmp}/webhook-delivery-ports.$EUID"
  flock 9
  if [[ -n ${!1:-} ]]; then
    port=${!1}
    ports_free "$port" "$3" || die "port $port is in use; set $1 to another one"
    return
  fi
  for ((port = $2; port < $2 + 200; port += $3)); do
    if ports_free "$port" "$3"; then
      ((port == $2)) || say "port $2 is in use: taking $port"
      return
    fi
  done
  die "no free port from $2 to $((port - 1)); set $1"
}

# ports_free PORT COUNT: whether nothing listens on any of these ports.
ports_free() {
  local port
  for ((port = $1; port < $1 + $2; port++)); do
    ! port_open "$port" || return 1
  done
}

# wait_for_port DIR PORT: waits until the server accepts connections; at most a minute.
wait_for_port() {
  local tries
  for ((tries = 0; tries < 300; tries++)); do
    # For its first second the process may still be the shell that becomes the server.
    running "$1" || ((tries < 5)) || break
    port_open "$2" && running "$1" && return
    sleep 0.2
  done
  tail -n 20 "$1/log" >&2 || true
  die "no server on port $2; its log is $1/log"
}

# stop_server DIR: ends the server of DIR by its id; waits at most half a minute for it.
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

# report DIR: prints whether the server of DIR runs, and where; fails if it does not.
report() {
  if running "$1"; then
    echo "running on port $(cat "$1/port"), process $(cat "$1/pid")"
  else
    echo "stopped"
    return 1
  fi
}

# apt_install PACKAGE…: installs packages, where that is allowed.
apt_install() {
  if ((EUID != 0)) || ! has apt-get; then
    die "install $* first (this needs root and apt-get)"
  fi
  say "installing $*"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy "$@"; } >&2
}

# install_python DIR REQUIREMENTS: installs these packages into a virtual environment of Python, unless they are
# there already.
install_python() (
  ! cmp -s "$2" "$1/installed" || exit 0
  { python3 -m venv "$1" || { apt_install python3-venv && python3 -m venv "$1"; }; } &&
    "$1/bin/pip" install -q -r "$2" && cp "$2" "$1/installed"
) >&2

# build_service PROFILE: builds the service as it ships, without the features of dev-dependencies, and sets
# SERVICE_BINARY. The binary is copied, because `cargo test` puts one with those features in its place.
build_service() {
  local target=${CARGO_TARGET_DIR:-$root/target}
  cargo build --locked --profile "$1" -p webhook-delivery --bin webhook-delivery
  mkdir -p "$target/shipped"
  # The old copy may still be running: replace the file instead of writing into it.
  cp --remove-destination "$target/${1/#dev/debug}/webhook-delivery" "$target/shipped/"
  export SERVICE_BINARY=$target/shipped/webhook-delivery
}

# What `provide` started, to be stopped at the end: `trap stop_started EXIT`.
started=()

stop_started() {
  local server
  for server in "${started[@]}"; do
    "$root/scripts/$server" stop || say "scripts/$server stop failed"
  done
}

# provide VARIABLE SERVER: sets the variable, unless it is set, to what `scripts/SERVER start` prints; fails
# where the server cannot be started.
provide() {
  local address was_running=no
  if [[ -z ${!1:-} ]]; then
    ! running "$servers/$2" || was_running=yes
    if address=$("$root/scripts/$2" start); then
      [[ $was_running == yes ]] || started+=("$2")
      export "$1=$address"
    else
      say "scripts/$2 start failed, and $1 is not set"
      return 1
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
