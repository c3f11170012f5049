"""Clients write while replicas and servers are killed, stopped and started; what was recorded is judged afterwards."""
