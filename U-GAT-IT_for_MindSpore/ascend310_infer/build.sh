#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles the client to out/main. MindSpore Lite is taken from $LITE_HOME, $MINDSPORE_LITE_PATH or
# the package mindspore_lite of python3, whichever comes first.
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if ! command -v cmake > /dev/null; then
    echo "build.sh: error: there is no cmake; install CMake 3.14.1 or newer" >&2
    exit 1
fi
lite=${LITE_HOME:-$MINDSPORE_LITE_PATH}
if [ -z "$lite" ]; then
    lite=$(python3 -c 'import importlib.util, os; s = importlib.util.find_spec("mindspore_lite")
print(os.path.dirname(s.origin) if s else "")')
fi
if [ ! -d "$lite/include" ] && [ ! -d "$lite/runtime/include" ]; then
    echo "build.sh: error: there is no MindSpore Lite in '$lite'; set LITE_HOME to its folder," \
        "or install mindspore-lite 2.0.0 with Python 3.7" >&2
    exit 1
fi
rm -rf "$folder/out"
cmake -S "$folder" -B "$folder/out/build" -DLITE_HOME="$(cd "$lite" && pwd)" \
    -DCMAKE_RUNTIME_OUTPUT_DIRECTORY="$folder/out" && cmake --build "$folder/out/build" && exit 0
echo "build.sh: error: the client does not compile; the messages above say why" >&2
exit 1
