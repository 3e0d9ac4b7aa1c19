#!/usr/bin/env bash
# A Slurm cluster of one node on this machine, for the tests marked `slurm`; nothing of it lies outside its folder.
#   tests/services/slurm.sh install        Debian's packages slurm-wlm and munge, where they are missing
#   tests/services/slurm.sh start FOLDER   starts it; then: export SLURM_CONF=FOLDER/slurm.conf
#   tests/services/slurm.sh stop FOLDER    ends it and its jobs
# Needs root. No container, no accounting (sacct), no cgroups; eight processors are promised whatever the machine has,
# so that small jobs fit.
# Partitions: `normal`; `low` and `urgent`, where a job of `urgent` pre-empts those of `low`, which get the signal that
# they asked for (submitit: SIGUSR2; without one SIGTERM) and half a minute, and are requeued.
# Exit code 3: it cannot be had here, and why is said in one line.
set -euo pipefail
action=${1:?install, start or stop}

cannot() { echo "no Slurm here: $*" >&2; exit 3; }

rooted() { [ "$(id -u)" = 0 ] || cannot "it is started as root, and this is $(id -un)"; }

installed() { command -v slurmctld slurmd munged sbatch >/dev/null; }

install() {
	installed && return
	rooted
	command -v apt-get >/dev/null || cannot "slurmctld is not installed, and there is no apt-get"
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update && apt-get -qq install -y --no-install-recommends slurm-wlm munge >/dev/null ||
		cannot "apt-get install slurm-wlm munge failed"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }

configure() {
	local host controller node
	host=$(hostname -s) controller=$(free_port) node=$(free_port)
	cat >"$folder/slurm.conf" <<-CONF
		ClusterName=lab
		SlurmctldHost=$host(127.0.0.1)
		SlurmctldPort=$controller
		SlurmdPort=$node
		SlurmUser=root
		SlurmdUser=root
		AuthType=auth/munge
		AuthInfo=socket=$folder/munge/socket,cred_expire=5
		CredType=cred/munge
		StateSaveLocation=$folder/state
		SlurmdSpoolDir=$folder/spool
		SlurmctldPidFile=$folder/slurmctld.pid
		SlurmdPidFile=$folder/slurmd.pid
		SlurmctldLogFile=$folder/slurmctld.log
		SlurmdLogFile=$folder/slurmd.log
		ProctrackType=proctrack/linuxproc
		TaskPlugin=task/none
		JobAcctGatherType=jobacct_gather/none
		AccountingStorageType=accounting_storage/none
		MpiDefault=none
		ReturnToService=2
		SwitchType=switch/none
		# Seconds: tests do not wait as long as a cluster lets jobs end, or before it starts them again (cred_expire).
		SlurmctldTimeout=60
		SlurmdTimeout=60
		KillWait=2
		SchedulerType=sched/backfill
		SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
		SelectType=select/cons_tres
		SelectTypeParameters=CR_CPU
		SlurmdParameters=config_overrides
		PreemptType=preempt/partition_prio
		PreemptMode=REQUEUE
		SlurmctldParameters=preempt_send_user_signal
		NodeName=$host NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
		PartitionName=normal Nodes=$host Default=YES PriorityTier=5 PreemptMode=OFF MaxTime=60 State=UP
		PartitionName=low Nodes=$host PriorityTier=1 PreemptMode=REQUEUE GraceTime=30 MaxTime=60 State=UP
		PartitionName=urgent Nodes=$host PriorityTier=10 PreemptMode=OFF MaxTime=60 State=UP
	CONF
}

start() {
	rooted
	installed || cannot "slurmctld or munged is not installed (tests/services/slurm.sh install)"
	mkdir -p "$folder"/{munge,state,spool}
	export SLURM_CONF=$folder/slurm.conf
	configure
	(umask 077 && head -c 128 /dev/urandom >"$folder/munge/key")
	munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
		--log-file="$folder/munge/log" --seed-file="$folder/munge/seed" || cannot "munged does not start"
	slurmctld && slurmd || cannot "the daemons do not start (see $folder/slurmctld.log)"
	for _ in $(seq 60); do
		[ "$(sinfo --noheader --format=%T --partition=normal 2>/dev/null)" = idle ] && return
		sleep 0.5
	done
	cannot "the node does not become idle (see $folder/slurmctld.log and slurmd.log)"
}

stop() {
	export SLURM_CONF=$folder/slurm.conf
	scancel --signal=KILL --user=root 2>/dev/null || true
	sleep 0.5
	scontrol shutdown 2>/dev/null || true
	[ -f "$folder/munge/pid" ] && kill "$(cat "$folder/munge/pid")" || true
}

case $action in
install) install ;;
start | stop)
	folder=$(realpath -m "${2:?folder}")
	"$action"
	;;
*) echo "install, start or stop, not $action" >&2 && exit 2 ;;
esac
