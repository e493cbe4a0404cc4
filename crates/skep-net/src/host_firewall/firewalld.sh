# --- what is done with them
PATH=$PATH:/usr/sbin:/sbin
policy_file=/etc/firewalld/policies/skep-$name-policy.xml
zone_file=/etc/firewalld/zones/skep-$name.xml

# What is permanent comes into force with this; what somebody has set for the time being is lost.
reload() {
	if [ "$(firewall-cmd --state 2>/dev/null)" = running ]; then
		firewall-cmd --reload >/dev/null
	else
		echo "firewalld does not run, so this waits for it" >&2
	fi
}

write() {
	if [ -s "$1.new" ]; then mv "$1.new" "$1"; else rm -f "$1.new" "$1"; fi
}

apply() {
	zone >"$zone_file.new"
	policy >"$policy_file.new"
	if cmp -s "$policy_file.new" "$policy_file" && { [ ! -s "$zone_file.new" ] || cmp -s "$zone_file.new" "$zone_file"; } &&
		[ "$(look)" = on ]; then
		rm -f "$zone_file.new" "$policy_file.new"
		return
	fi
	write "$zone_file"
	write "$policy_file"
	if ! said=$(firewall-cmd --check-config 2>&1); then
		rm -f "$zone_file" "$policy_file"
		echo "firewalld refuses its configuration, and nothing was changed: $said" >&2
		exit 1
	fi
	reload
}

remove() {
	if [ ! -e "$policy_file" ] && [ ! -e "$zone_file" ]; then return; fi
	rm -f "$policy_file" "$zone_file"
	reload
}

look() {
	if firewall-cmd --get-policies 2>/dev/null | tr ' ' '\n' | grep -qx "skep-$name-policy"; then
		echo on
	else
		echo off
	fi
}
