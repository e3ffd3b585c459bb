"""Checks of what the benchmarks compute: what they read out of programs and /proc, ratios, targets.

    python3 scripts/test_bench.py

No load, no root, nothing to install: scripts/test.sh runs it wherever there is a Python.
"""

import json
import socket
import sys
import types
import unittest
import xml.etree.ElementTree

sys.dont_write_bytecode = True

from bench import accounting, chart, figures, load, measure, peers, table, targets, workloads  # noqa: E402

WRK = """Running 3s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.44ms  310.55us   5.13ms   84.14%
    Req/Sec    43.50k     2.71k   48.32k    70.00%
  Latency Distribution
     50%    1.37ms
     75%    1.52ms
     90%  980.00us
     99%    2.01s
  130112 requests in 3.10s, 32.26MB read
Requests/sec:  41971.61
Transfer/sec:     10.41MB
"""


class Programs(unittest.TestCase):
    def test_wrk(self):
        found = load.parse_wrk(WRK)
        self.assertEqual(found["units"], 130112)
        self.assertAlmostEqual(found["seconds"], 3.1)
        self.assertEqual(found["errors"], [])
        self.assertAlmostEqual(found["p50_us"], 1370)
        self.assertAlmostEqual(found["p90_us"], 980)
        self.assertAlmostEqual(found["p99_us"], 2_010_000)

    def test_wrk_tells_of_every_kind_of_error(self):
        sockets = WRK.replace("Requests/sec",
                              "  Socket errors: connect 0, read 3, write 0, timeout 0\nRequests/sec")
        answers = WRK.replace("Requests/sec", "  Non-2xx or 3xx responses: 7\nRequests/sec")
        self.assertIn("read 3", load.parse_wrk(sockets)["errors"][0])
        self.assertIn("7 answers", load.parse_wrk(answers)["errors"][0])
        nonsense = load.parse_wrk("unable to connect")
        self.assertEqual(nonsense["units"], 0)
        self.assertTrue(nonsense["errors"])

    def test_iperf(self):
        arrived = {"bytes": 5 << 30, "seconds": 2.5}
        answer = {"end": {"sum_sent": {"bytes": 6 << 30, "seconds": 2}, "sum_received": arrived}}
        found = load.parse_iperf(json.dumps(answer))
        self.assertEqual((found["units"], found["seconds"], found["errors"]), (5, 2.5, []))
        for text in (json.dumps({"end": {}, "error": "the server is busy"}), "not JSON", ""):
            found = load.parse_iperf(text)
            self.assertEqual(found["units"], 0)
            self.assertTrue(found["errors"])

    def test_strace(self):
        calls = measure.parse_strace(
            "% time     seconds  usecs/call     calls    errors syscall\n"
            "------ ----------- ----------- --------- --------- ----------------\n"
            " 40.00    0.000020           1        12         3 recvfrom\n"
            " 60.00    0.000030           2         8           sendto\n"
            "------ ----------- ----------- --------- --------- ----------------\n"
            "100.00    0.000050           2        20         3 total\n")
        self.assertEqual(calls, {"recvfrom": 12, "sendto": 8})


class Comparison(unittest.TestCase):
    def test_a_faithful_way_passes(self):
        check = load.ByteCheck(size=100_000)
        self.addCleanup(check.listener.close)
        self.assertIsNone(check.through(check.port, seconds=5))

    def test_nobody_there_is_told(self):
        check = load.ByteCheck(size=10)
        check.listener.close()
        self.assertIn("no connection", check.through(check.port, seconds=0))

    def test_a_changed_or_missing_byte_is_told(self):
        for arrives, word in ((b"abcXe", "differs at byte 3"), (b"abc", "ended after 3")):
            (source, away), (target, feed) = socket.socketpair(), socket.socketpair()
            with source, away, target:
                feed.sendall(arrives)
                feed.close()
                self.assertIn(word, load.carry("up", source, target, b"abcde", seconds=5))


class Accounting(unittest.TestCase):
    def test_a_name_may_hold_anything(self):
        line = ("42 (a) b (c) S 7 42 42 0 -1 2097152 1 2 3 4 11 12 13 14 20 0 1 0 555 0 0\n")
        pid, started, stat = accounting.parse_stat(line)
        self.assertEqual((pid, started), (42, 555))
        self.assertEqual(stat, accounting.Stat(7, True, 11, 12, 13, 14))

    def test_busy_and_stolen_of_the_cpus_in_use(self):
        text = ("cpu  99 99 99 99 99 99 99 99 0 0\ncpu0 1 2 4 500 600 8 16 32 0 0\n"
                "cpu1 100 0 0 1 1 0 0 5 0 0\ncpu10 7 7 7 7 7 7 7 7 0 0\nintr 3 0\n")
        self.assertEqual(accounting.parse_machine(text, [0, 1]), (131, 37))

    def test_threads_come_and_go(self):
        self.assertEqual(accounting.threads_spent({(1, 1): 100, (1, 2): 50},
                                                  {(1, 1): 130, (1, 3): 5}), 35)

    def test_a_tree_has_its_descendants_only(self):
        stats = {(pid, 0): accounting.Stat(parent, False, 0, 0, 0, 0)
                 for pid, parent in ((1, 0), (5, 1), (6, 5), (7, 6), (8, 1))}
        self.assertEqual({pid for pid, _ in accounting.tree(stats, 5)}, {5, 6, 7})

    def test_time_of_a_thread_that_ended_is_not_lost(self):
        tick = accounting.TICK_NS
        before = reading(moment=0, threads={(9, 9): 1_000}, user=0, system=0)
        steady = reading(moment=1, threads={(9, 9): 50 * tick}, user=20, system=29)
        self.assertEqual(accounting.spent(before, steady)["proxy_ns"], 50 * tick - 1_000)
        ended = reading(moment=1, threads={(9, 9): 10 * tick}, user=20, system=29)
        self.assertEqual(accounting.spent(before, ended)["proxy_ns"], 49 * tick)

    def test_foreign_load_is_what_is_neither_ours_nor_the_kernels(self):
        def stat(ticks, kernel=False, inherited=0):
            return accounting.Stat(1, kernel, ticks, 0, inherited, 0)

        ours, kernel, shell, compiler, started = (1, 0), (2, 0), (3, 0), (4, 0), (5, 9)
        before = reading(stats={ours: stat(0), kernel: stat(0, True), shell: stat(10),
                                compiler: stat(400)}, mine={ours})
        # The compiler ended after 30 more ticks and passed all its 430 to the shell.
        after = reading(stats={ours: stat(90), kernel: stat(80, True),
                               shell: stat(12, inherited=430), started: stat(5)}, mine={ours})
        self.assertEqual(accounting.foreign_ticks(before, after), 2 + 30 + 5)


def reading(moment=0, threads=None, user=0, system=0, stats=None, mine=()):
    return types.SimpleNamespace(moment=moment, threads=threads or {}, user=user, system=system,
                                 members=1, stats=stats or {}, mine=mine, busy=0, stolen=0)


class Judgement(unittest.TestCase):
    def test_ratios_are_taken_within_rounds(self):
        run = document({"evenkeel": [10, 30, 80], "haproxy": [10, 60, 100]})
        found = figures.Figures(run).ratio("short", "evenkeel", "haproxy", figures.cpu)
        # The ratio of the medians would be 0.5.
        self.assertEqual(found, (0.8, 0.5, 1.0))

    def test_a_round_that_only_one_has_is_left_out(self):
        run = document({"evenkeel": [10, 30], "haproxy": [20, 10]})
        run["samples"] = [sample for sample in run["samples"]
                          if (sample["peer"], sample["round"]) != ("haproxy", 2)]
        found = figures.Figures(run).ratio("short", "evenkeel", "haproxy", figures.cpu)
        self.assertEqual(found.high, 0.5)

    def test_haproxys_best_mode_is_never_the_deferring_one(self):
        run = document({"haproxy": [30], "haproxy-auto": [28], "haproxy-defer": [20]})
        self.assertEqual(figures.Figures(run).haproxy("short"), "haproxy-auto")

    def test_the_better_poller_is_judged_against_haproxys_better_mode(self):
        line = judged({"evenkeel": [80], "evenkeel-uring": [70], "haproxy": [100],
                       "haproxy-splice": [110]}, "CPU")
        self.assertEqual((line.peers, line.met), (("evenkeel-uring", "haproxy"), True))
        self.assertAlmostEqual(line.measured.median, 0.7)
        line = judged({"evenkeel": [80], "evenkeel-uring": [79], "haproxy": [110],
                       "haproxy-splice": [100]}, "CPU")
        self.assertEqual((line.peers, line.met), (("evenkeel-uring", "haproxy-splice"), False))

    def test_the_limit_itself_is_met(self):
        self.assertTrue(judged({"evenkeel": [78], "haproxy": [100]}, "CPU").met)
        self.assertFalse(judged({"evenkeel": [79], "haproxy": [100]}, "CPU").met)

    def test_deferred_accept_is_judged_by_itself(self):
        values = {"evenkeel": [80], "evenkeel-defer": [72], "haproxy": [100], "haproxy-defer": [90]}
        line = judged(values, "CPU, deferred accept")
        self.assertEqual((line.peers, line.met), (("evenkeel-defer", "haproxy"), True))
        shown = judged(values, "CPU, both with deferred accept (no target)")
        self.assertEqual((shown.met, shown.measured.median), (None, 0.8))

    def test_throughput_must_not_be_lower(self):
        for units, met in ((1000, True), (999, False)):
            run = document({"evenkeel": [50], "haproxy": [100]})
            for sample in run["samples"]:
                sample["units"] = units if sample["peer"] == "evenkeel" else 1000
            line, = (line for line in targets.evaluate(run) if line.what == "throughput")
            self.assertEqual(line.met, met)

    def test_a_missing_peer_is_no_verdict(self):
        line = judged({"evenkeel": [50]}, "CPU")
        self.assertEqual((line.met, line.measured), (None, None))
        self.assertEqual(targets.evaluate(document({"haproxy": [50]})), [])

    def test_errors_of_ours_are_a_miss_and_disturbance_is_told(self):
        run = document({"evenkeel": [50, 50], "haproxy": [100, 100]})
        run["samples"][0]["errors"] = ["socket errors"]
        run["samples"][1]["disturbed"] = True
        line = next(line for line in targets.evaluate(run) if line.what == "CPU")
        self.assertFalse(line.met)
        self.assertIn("errors with evenkeel", line.note)
        self.assertIn("disturbed", line.note)

    def test_bulk_is_judged_against_both_of_haproxys_ways(self):
        values = {"evenkeel": [75], "haproxy": [400], "haproxy-splice": [100]}
        lines = targets.evaluate(document(values, "bulk4-down"))
        verdicts = {line.peers[1]: line.met for line in lines if line.what == "CPU"}
        self.assertEqual(verdicts, {"haproxy-splice": True, "haproxy": True})
        values["haproxy"] = [370]
        lines = targets.evaluate(document(values, "bulk4-down"))
        self.assertIn(False, [line.met for line in lines if line.peers[1] == "haproxy"])

    def test_keep_alive_is_judged_against_nginx_too(self):
        values = {"evenkeel": [80], "haproxy": [100], "nginx": [79]}
        lines = targets.evaluate(document(values, "keepalive512"))
        verdicts = {line.peers[1]: line.met for line in lines if line.what == "CPU"}
        self.assertEqual(verdicts, {"haproxy": True, "nginx": False})

    def test_idle_memory(self):
        run = document({"evenkeel": [1]}, "idle")
        run["samples"][0].update(pss_each=301, pipes=0, base_pss=8_000_000)
        self.assertEqual([line.met for line in targets.evaluate(run)], [False, True, True])

    def test_the_share_of_user_time(self):
        sample = {"proxy_ns": 3e6, "units": 1000, "proxy_user_ticks": 1, "proxy_system_ticks": 2}
        self.assertAlmostEqual(figures.user_cpu(sample), 1000)
        self.assertIsNone(figures.user_cpu({**sample, "proxy_user_ticks": 0,
                                            "proxy_system_ticks": 0}))


class Report(unittest.TestCase):
    def test_a_table_row(self):
        run = document({"evenkeel": [10_000, 20_000, 30_000], "haproxy": [40_000] * 3})
        text = table.render(run)
        self.assertIn("| evenkeel | 20.0 [10.0 - 30.0] | 0.500 [0.250 - 0.750] |", text)
        self.assertIn("ratio to haproxy |", text)
        self.assertNotIn(f"evenkeel {table.MARK}", text)

    def test_what_is_doubtful_is_marked(self):
        run = document({"evenkeel": [10], "haproxy": [40]})
        run["samples"][0]["errors"] = ["socket errors: read 1"]
        run["samples"][1]["disturbed"] = True
        text = table.render(run)
        self.assertIn(f"| evenkeel {table.MARK} |", text)
        self.assertIn(f"| haproxy {table.MARK} |", text)
        self.assertIn("errors in 1 of 1 samples: socket errors: read 1", text)
        self.assertIn("2 of 2 samples were disturbed or had errors", chart.render(run))

    def test_nothing_done_has_no_figures(self):
        run = document({"evenkeel": [10], "haproxy": [40]})
        run["samples"][0].update(load.failed("it ended"), proxy_ns=5)
        self.assertIn(f"| evenkeel {table.MARK} | - | - |", table.render(run))
        chart.render(run)

    def test_the_chart_is_a_picture_of_the_ratios(self):
        run = document({"evenkeel": [50, 60], "haproxy": [100, 100], "nginx": [300, 300]})
        picture = xml.etree.ElementTree.fromstring(chart.render(run))
        bars = {bar.get("class"): float(bar.get("width")) for bar in picture.iter()
                if bar.tag.endswith("rect") and bar.get("height") == str(chart.BAR)}
        self.assertAlmostEqual(bars["evenkeel"] / bars["haproxy"], 0.55, places=2)
        self.assertAlmostEqual(bars["nginx"] / bars["haproxy"], chart.SCALE_MAX, places=2)
        words = "".join(picture.itertext())
        self.assertIn("0.55", words)
        self.assertIn("3.00", words)

    def test_numbers(self):
        self.assertEqual([table.number(value) for value in (0, 0.1234, 1.2, 7.654, 12.34, 12345.6)],
                         ["0", "0.123", "1.200", "7.65", "12.3", "12,346"])


class Plans(unittest.TestCase):
    def test_workloads_by_name_group_and_without_direction(self):
        names = [workload.name for workload in workloads.select(["bulk4", "idle", "short"])]
        self.assertEqual(names, ["short", "bulk4-down", "bulk4-up", "idle"])
        self.assertEqual(len(workloads.select(["sizes"])), 6)
        with self.assertRaises(ValueError):
            workloads.select(["shrot"])

    def test_every_workload_and_target_knows_its_peers(self):
        for workload in workloads.WORKLOADS.values():
            self.assertLessEqual(set(workload.peers), set(peers.PEERS))
        self.assertLessEqual(set(workloads.MANY_WORKERS), set(workloads.WORKLOADS))

    def test_every_peer_has_its_turn_at_the_beginning(self):
        firsts = {measure.rotated(["a", "b", "c"], number)[0] for number in range(3)}
        self.assertEqual(firsts, {"a", "b", "c"})

    def test_haproxy_stays_within_the_limit_on_open_files(self):
        fronts = [peers.Front("http", 1, [2])]
        for limit in (4096, 20_000, 1 << 20):
            for name in ("haproxy", "haproxy-splice"):
                plan = peers.Plan(fronts, 1, limit, "/nowhere", "evenkeel")
                text = peers.PEERS[name].configure(plan).files["haproxy.cfg"]
                words = text.split()
                used = 2 * int(words[words.index("maxconn") + 1])
                if "maxpipes" in words:
                    used += 2 * int(words[words.index("maxpipes") + 1])
                self.assertLess(used + 100, limit)


def judged(values, what):
    line, = (line for line in targets.evaluate(document(values))
             if line.what == what and line.workload == "short")
    return line


def document(values, workload="short"):
    """A run whose proxies spent these nanoseconds per unit, one value per round."""
    samples = [
        {"workload": workload, "peer": name, "round": number + 1, "units": 1000, "seconds": 1,
         "errors": [], "disturbed": False, "discarded": [], "proxy_ns": value * 1000,
         "proxy_user_ticks": 1, "proxy_system_ticks": 9, "busy_ns": value * 2000,
         "p50_us": 100, "p90_us": 150, "p99_us": 200}
        for name, rounds in values.items() for number, value in enumerate(rounds)
    ]
    return {
        "date": "a day", "machine": {"cpu": "a CPU", "cores": 2, "kernel": "6.1-x"},
        "network": "loopback", "placement": "somewhere", "versions": {"haproxy": "HAProxy 2.6.1"},
        "options": {"rounds": max(map(len, values.values())), "seconds": 1, "workers": 1},
        "configurations": {name: {"about": "-", "family": peers.PEERS[name].family}
                           for name in values},
        "notes": [], "samples": samples, "syscalls": [],
    }


if __name__ == "__main__":
    unittest.main()
