#!/usr/bin/env bash
# Rust's suppaftp, a crate of its own beside this folder; built by ./tests/matrix.
exec "$MATRIX_SUPPAFTP"
