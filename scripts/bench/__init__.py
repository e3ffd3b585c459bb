"""What the benchmarks share. `bench-peers.sh` and `bench-sizes.sh` start them.

    lab         where it runs: network, CPUs, temporary folder, processes started and ended
    accounting  what the kernel says it cost: CPU, memory and pipes, out of /proc
    load        what clients do: wrk, iperf3, idle connections, the comparison of bytes
    backends    what stands behind the peers: nginx over HTTP, iperf3
    peers       how each peer is configured and started
    fetch       peers that Debian does not package
    workloads   what is measured, in which unit, and which peers take part
    measure     one sample, its repetition when disturbed, the rounds, the count of system calls
    figures     samples to medians and ratios
    targets     which lines evenkeel wants to hold, and whether it does
    table       the report as Markdown
    chart       the report as SVG

`figures`, `targets`, `table` and `chart` read a document (what `--json` writes) and the names in
`workloads`, and nothing else.
"""
