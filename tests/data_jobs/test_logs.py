"""Long logs and traces lose their middle and keep what people search for; everything else stays as it is."""

import re

import pytest

from data_jobs.logs import folded

FORMS = {
    "iso": "2024-03-01T10:00:{:02}Z pump started",
    "python": "2024-03-01 10:00:{:02},123 INFO app.pump: started",
    "level": "2024-03-01 10:00:{:02} [main] INFO pump started",
    "nginx": "2024/03/01 10:00:{:02} [notice] 123#0: started",
    "syslog": "Mar  1 10:00:{:02} host pump[{}]: started",
    "access": '10.0.0.{} - - [01/Mar/2024:10:00:00 +0000] "GET / HTTP/1.1" 200',
    "maven": "[INFO] building {}",
    "klog": "I0301 10:00:{:02}.123456   1 pump.go:12] started",
    "kernel": "[   {:2}.123456] usb 1-1: new device",
    "logfmt": "time=2024-03-01 level=info n={}",
}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_long_logs_are_folded(form: str) -> None:
    lines = [FORMS[form].format(number, number) for number in range(40)]
    text = "\n".join(["Before it:", *lines, "After it."])
    short, gone = folded(text, 12)
    assert gone == 35
    assert short.split("\n") == ["Before it:", *lines[:3], "[… 35 lines of the same kind left out]", *lines[-2:], "After it."]
    assert folded(short, 12) == (short, 0)
    assert folded("\n".join(lines[:11]), 12) == ("\n".join(lines[:11]), 0)


def test_errors_in_the_middle_of_a_log_stay_once_each() -> None:
    lines = [f"2024-03-01 10:00:{number:02} INFO pump started" for number in range(40)]
    lines[20] = "2024-03-01 10:00:20 ERROR valve 7 stuck"
    lines[25] = "2024-03-01 10:00:25 ERROR valve 9 stuck"
    lines[30] = "2024-03-01 10:00:30 FATAL no water"
    short, gone = folded("\n".join(lines), 12)
    assert "valve 7 stuck" in short
    assert "valve 9" not in short
    assert "no water" in short
    assert sum(map(int, re.findall(r"… (\d+) lines?", short))) == gone == 33
    assert folded(short, 12) == (short, 0)


def python_trace(frames: int) -> list[str]:
    steps = [
        line for number in range(frames) for line in (f'  File "/app/step{number}.py", line {number}, in run', "    step(pump)")
    ]
    return ["Traceback (most recent call last):", *steps, "ValueError: no water in pump 7"]


def java_trace(frames: int) -> list[str]:
    steps = [f"\tat org.example.Pump.run{number}(Pump.java:{number})" for number in range(frames)]
    return [
        "java.lang.IllegalStateException: no water in pump 7",
        *steps,
        "Caused by: java.io.IOException: closed",
        "\t... 12 more",
    ]


def javascript_trace(frames: int) -> list[str]:
    return ["TypeError: no water in pump 7", *[f"    at async run{number} (/app/pump.js:{number}:7)" for number in range(frames)]]


def go_trace(frames: int) -> list[str]:
    steps = [line for number in range(frames) for line in (f"main.run{number}(0xc000)", f"\t/app/pump.go:{number} +0x1d")]
    return ["panic: no water in pump 7", "", "goroutine 1 [running]:", *steps]


def rust_trace(frames: int) -> list[str]:
    steps = [
        line
        for number in range(frames)
        for line in (f"  {number:2}: pump::run{number}", f"             at ./src/pump.rs:{number}:7")
    ]
    return ["thread 'main' panicked at src/pump.rs:7:5:", "no water in pump 7", "stack backtrace:", *steps]


def net_trace(frames: int) -> list[str]:
    steps = [f"   at Example.Pump.Run{number}(Int32 n) in C:\\app\\Pump.cs:line {number}" for number in range(frames)]
    return ["System.InvalidOperationException: no water in pump 7", *steps]


@pytest.mark.parametrize("trace", [python_trace, java_trace, javascript_trace, go_trace, rust_trace, net_trace])
def test_long_traces_keep_their_message_their_head_and_their_tail(trace) -> None:
    lines = ["It said:", *trace(40), "What now?"]
    short, gone = folded("\n".join(lines), 12)
    kept = short.split("\n")
    assert "no water in pump 7" in short
    assert kept[0] == "It said:"
    assert kept[-1] == "What now?"
    assert gone >= 33
    assert len(kept) == len(lines) - gone + 1
    assert short.count("left out]") == 1
    assert folded(short, 12) == (short, 0)
    few = "\n".join(trace(11))
    assert folded(few, 12) == (few, 0)


def test_equal_lines_in_a_row_are_counted() -> None:
    short, gone = folded("\n".join(["start", *["waiting for pump"] * 30, "end"]), 12)
    assert short == "start\nwaiting for pump\n[… the same line 29 times more]\nend"
    assert gone == 29
    assert folded(short, 12) == (short, 0)


@pytest.mark.parametrize(
    "text",
    [
        "```python\n" + "\n".join(f"plt.plot(x, y{number})" for number in range(40)) + "\n```",
        "\n".join(f"| {number} | {number * 7} |" for number in range(40)),
        "\n".join(f"{number}. Turn the valve to {number}." for number in range(1, 40)),
        "\n".join(f"2024-03-{number:02} the lift was inspected" for number in range(1, 29)),
        "\n".join(f"[2024-03-01 10:00:{number:02}] the desk: is it running?" for number in range(40)),
        "\n".join(f"- at the {number}th floor" for number in range(40)),
        "\n".join(f"    value{number}: std::string," for number in range(40)),
        "\n\n".join(f"ERROR {number} means that the pump has no water." for number in range(40)),
        "\n" * 40,
    ],
)
def test_code_tables_lists_and_chats_stay(text: str) -> None:
    assert folded(text, 12) == (text, 0)
