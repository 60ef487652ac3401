"""Carries tenant networks on Linux: a bridge and a VNI per network, a namespace per router, nftables for rules.

On a host a network is: the bridge ``pnb<vni>`` that guests are plugged into; the namespace ``penstock-<host>-<vni>`` with
the router (``gw`` towards the bridge, ``vx`` towards the other hosts, ``ext`` outside on the gateway host); a
table of rules in that namespace; elements of the host's table that ties each tap to its MAC and address; a
dnsmasq for DHCP and DNS. Guests never hear each other's frames: every packet goes through the router, whose connection
tracking is the network's own, so that tenants may have the same addresses (ADR 0011).

"Already gone" is: none of these is there. Needs root, iproute2's kernel features (bridge, veth, VXLAN), libnftables 1.0 and
dnsmasq (Debian: libnftables1, dnsmasq-base).
"""
