#!/usr/bin/env bash
# Java's commons-net: the source file is run as it is.
exec java -XX:TieredStopAtLevel=1 -Djdk.tls.client.protocols="TLSv$MATRIX_TLS" \
    -cp "${MATRIX_COMMONS_NET:-/usr/share/java/commons-net.jar}" CommonsNet.java
