# SPDX-License-Identifier: Apache-2.0
"""A small internet in network namespaces: real clients, a router, real servers.

`xdpprobe demo` and the tests of tests/net run on it. It never touches an interface of the machine.
"""
