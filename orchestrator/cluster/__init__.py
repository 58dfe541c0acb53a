"""Clusters of a cluster file: started, given sweeps, looked at and stopped from the machine one sits at.

`launch` and `jobs` run here, over Ray's own launcher and one SSH connection to the head (`head`); what
they ask there is answered by `on_head`, which speaks to Ray on the loopback address. So nothing but SSH
needs to be open.
"""
