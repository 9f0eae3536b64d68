#!/bin/sh
# Compiles the packages of this workspace, and no others, so that libFuzzer sees which branches an input takes.
# `cargo xtask fuzz` makes it cargo's RUSTC_WORKSPACE_WRAPPER, so what they depend on is built once for everything.
# Of this file cargo looks at the name alone: after a change of it, change a source as well.
set -eu
case " $* " in
*" --crate-name build_script_"*) exec "$@" ;;
# Optimized it would take most of a minute longer to compile, for a run that is faster by half.
*" --crate-name vouch "*) level=0 ;;
*) level=1 ;;
esac
# The flags are those of cargo-fuzz; debug assertions and overflow checks are those of the dev profile.
exec "$@" \
    -C passes=sancov-module \
    -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
    -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares \
    -C codegen-units=1 \
    -C opt-level="$level"
