#!/bin/sh
# Scripts written for docker-machine's machines call this; the supervisor does it.
export SVDIR=/etc/skep/sv
case "$1" in
start | stop | restart | status) exec sv -w 60 "$1" docker ;;
reload) exec sv hup docker ;;
*)
	echo "Usage: $0 start|stop|restart|reload|status" >&2
	exit 1
	;;
esac
