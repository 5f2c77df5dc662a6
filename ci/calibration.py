# SPDX-License-Identifier: Apache-2.0
"""What the machine can do right now: products, convolutions and copies a second.

`PYTHON ci/calibration.py tensorflow|mindspore|matmul`, with the Python of the environment that is
measured (3.7 too), prints one JSON object. `rates` starts that, beside the repeats of measurements.

Baselines of time are costs: seconds x rate of the convolution in the same framework, version and
precision, on the same two cores, in the same minute. A step of these networks spends most of its
time in 3x3 and 4x4 convolutions of 32 to 512 channels, so whatever makes them faster elsewhere
(wider vectors, more cores, a higher clock, no neighbours, units for bfloat16) makes the convolution
here faster by about as much, and the cost, the GFLOP of convolution that the time would have been
enough for, stays. A matrix product in numpy carries over less well: its library has other kernels
than the framework (in bfloat16 none) and may use other vectors. What is bound by memory, as norms
are, moves with the copy rate instead; that is why a cost has a band and no exact value. Memory,
FLOPs, shares of time and exponents need no rate.
"""

import argparse
import json
import os
import subprocess
import sys
import time

SIDE, CHANNELS, KERNEL = 64, 128, 3  # of the convolution: [1, 64, 64, 128] to as many channels
CONVOLUTION_FLOPS = 2 * SIDE**2 * CHANNELS**2 * KERNEL**2  # 1.2 GFLOP
PRODUCT = 1024  # rows and columns of the matrices, 2.1 GFLOP
COPIED = 2**28  # bytes, several times what caches hold
SECONDS = 0.5  # how long each rate is measured
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")


def median_seconds(function, seconds=SECONDS):
    """Returns the median time of a call of `function` over at least `seconds` and 5 calls."""
    function()
    times = []
    while sum(times) < seconds or len(times) < 5:
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return sorted(times)[len(times) // 2]


def matmul_gflops(seconds=SECONDS, size=PRODUCT):
    """Returns the rate of numpy's float32 matrix product, GFLOP/s."""
    import numpy as np

    rng = np.random.RandomState(0)
    a, b = (rng.rand(size, size).astype(np.float32) for _ in range(2))
    out = np.empty_like(a)
    return 2 * size**3 / median_seconds(lambda: np.matmul(a, b, out=out), seconds) / 1e9


def copy_gbytes(seconds=SECONDS, size=COPIED):
    """Returns the rate at which numpy copies memory, GB/s read and written together."""
    import numpy as np

    source = np.ones(size // 4, np.float32)
    target = np.empty_like(source)
    return 2 * size / median_seconds(lambda: np.copyto(target, source), seconds) / 1e9


def _arrays():
    import numpy as np

    rng = np.random.RandomState(0)
    images = rng.standard_normal((1, SIDE, SIDE, CHANNELS)).astype(np.float32)
    kernel = rng.standard_normal((KERNEL, KERNEL, CHANNELS, CHANNELS)).astype(np.float32)
    return images, kernel


def tensorflow_gflops(precision, seconds=SECONDS):
    """Returns the rate of tf.nn.conv2d on variables in "float32" or "bfloat16", GFLOP/s."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    images, kernel = _arrays()
    threads = len(os.sched_getaffinity(0))
    config = tf.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1)
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        kind = tf.as_dtype(precision)
        x, w = (tf.Variable(tf.cast(tf.constant(each), kind)) for each in (images, kernel))
        y = tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME").op
        session.run(tf.global_variables_initializer())
        return CONVOLUTION_FLOPS / median_seconds(lambda: session.run(y), seconds) / 1e9


def mindspore_gflops(precision, seconds=SECONDS):
    """Returns the rate of ops.conv2d on a CPU as U-GAT-IT runs it, GFLOP/s; "float32" only."""
    os.environ.setdefault("GLOG_v", "3")
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")  # as the model; see ugatit/device.py
    import mindspore as ms
    from mindspore import Tensor, ops

    if precision != "float32":
        raise ValueError("MindSpore has no %s convolution on a CPU" % precision)
    ms.set_context(device_target="CPU", mode=ms.PYNATIVE_MODE)
    if hasattr(ms, "runtime"):
        ms.runtime.launch_blocking()
    images, kernel = _arrays()
    x = Tensor(images.transpose(0, 3, 1, 2).copy())
    w = Tensor(kernel.transpose(3, 2, 0, 1).copy())
    conv2d = ops.Conv2D(CHANNELS, KERNEL, pad_mode="pad", pad=KERNEL // 2)
    run = lambda: conv2d(x, w).asnumpy()  # noqa: E731 - what is timed
    return CONVOLUTION_FLOPS / median_seconds(run, seconds) / 1e9


FRAMEWORKS = {"tensorflow": tensorflow_gflops, "mindspore": mindspore_gflops}


def has_bfloat16():
    """Returns whether this CPU computes in bfloat16."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            text = file.read()
    except OSError:
        return False
    return any(flag in text for flag in BFLOAT16_FLAGS)


def rates(python, framework, timeout=300):
    """Returns the machine's rates now, with the software of an environment.

    Args:
      python: path of the environment's Python.
      framework: "tensorflow" or "mindspore".
      timeout: seconds it may take.

    Returns:
      {"matmul_gflops", "copy_gbytes", "float32", "bfloat16"}; the last two are the convolution's
      GFLOP/s, the last only where the environment and the CPU have it.

    Raises:
      RuntimeError: if the environment cannot measure; holds the end of what it said.
    """
    command = [str(python), os.path.abspath(__file__), framework]
    words = " ".join(command)
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise RuntimeError("%s took more than %g s" % (words, timeout)) from None
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace")[-2000:]
        raise RuntimeError("%s ended with %d:\n%s" % (words, done.returncode, text))
    try:
        found = json.loads(done.stdout.decode("utf-8").strip().splitlines()[-1])
        if all(0 < rate < float("inf") for rate in found.values()):
            return found
    except (IndexError, ValueError):
        pass
    raise RuntimeError("%s printed no rates: %r" % (words, done.stdout[-500:]))


def main():
    """Prints the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("framework", choices=[*sorted(FRAMEWORKS), "matmul"])
    framework = parser.parse_args().framework
    if framework == "matmul":  # alone and for longer, as one of several ranks
        print(json.dumps({"matmul_gflops": matmul_gflops(seconds=3)}))
        return 0
    convolution = FRAMEWORKS[framework]
    found = {"matmul_gflops": matmul_gflops(), "copy_gbytes": copy_gbytes()}
    found["float32"] = convolution("float32")
    if framework == "tensorflow" and has_bfloat16():
        import tensorflow as tf

        if not tf.__version__.startswith("1."):
            found["bfloat16"] = convolution("bfloat16")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
