#!/bin/sh
# Brings a real Apache Kafka's jars to .cache/kafka/<version>/libs, by Maven: the release archive is not on Maven
# Central, its jars are. Prints the libs directory on stdout, everything else on stderr. Running it again costs nothing.
#
#   tests/fetch-kafka.sh 4.3.1          the broker and the tools
#   tests/fetch-kafka.sh 4.3.1 mirror   with MirrorMaker 2 beside them, for the benches
#
# KAFKA_HOME   an unpacked Kafka of the same major version is used as it is (its libs/), nothing is fetched
# KAFKA_CACHE  where to keep what was fetched (default: .cache/kafka in the project)
set -eu

version=${1:?usage: tests/fetch-kafka.sh VERSION [mirror]}
with=${2:-}
project=$(cd "$(dirname "$0")/.." && pwd)
cache=${KAFKA_CACHE:-$project/.cache/kafka}
kept=$cache/$version${with:+-$with}
libs=$kept/libs

say() { echo "fetch-kafka: $*" >&2; }

work= place= broker=
clean() {
    [ -z "$broker" ] || kill -9 "$broker" 2>/dev/null || true
    rm -rf ${work:+"$work"} ${place:+"$place"}
}
trap clean EXIT
trap 'exit 1' INT TERM HUP

# Nothing to do when the jars are there. Even then a Java is needed to run them.
need() {
    command -v "$1" >/dev/null 2>&1 && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "$1 is missing, installing $2"
        { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$2"; } >&2 \
            && return 0
    fi
    say "$1 is missing. On Debian: apt-get install -y openjdk-17-jdk-headless maven"
    exit 1
}
need java openjdk-17-jdk-headless

if [ -n "${KAFKA_HOME:-}" ]; then
    for jar in "$KAFKA_HOME"/libs/kafka_2.13-"${version%%.*}".*.jar; do
        if [ -e "$jar" ]; then
            echo "$KAFKA_HOME/libs"
            exit 0
        fi
    done
    say "KAFKA_HOME=$KAFKA_HOME is not a Kafka ${version%%.*}.x, fetching $version"
fi

# Half of a small broker's start is the loading of its classes: they are kept as the JVM wants them (class data sharing), as
# one broker and one tool have loaded them. Where that fails, everything starts slower, no more.
share_classes() {
    shared=$kept/classes.jsa
    [ -z "$with" ] && [ ! -e "$shared" ] || return 0
    say "preparing Kafka $version's classes for quick starts"
    place=$(mktemp -d "$cache/.share-$version.XXXXXX")
    port=$((20000 + $$ % 10000))
    cat >"$place/properties" <<EOF
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$((port + 1))
log.dirs=$place/data
offsets.topic.replication.factor=1
EOF
    quick="-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
    # shellcheck disable=SC2086
    {
        java $quick -cp "$libs/*" kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$place/properties" || true
        java $quick -XX:ArchiveClassesAtExit="$place/classes.jsa" -cp "$libs/*" kafka.Kafka "$place/properties" &
        broker=$!
        java $quick -cp "$libs/*" org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$port" --list || true
        kill "$broker" || true
        wait "$broker" || true
        broker=
    } >"$place/log" 2>&1
    # An empty one says that it was tried.
    [ -s "$place/classes.jsa" ] || { say "they stay as they are"; : >"$place/classes.jsa"; }
    mv -f "$place/classes.jsa" "$shared"
}

if [ -d "$libs" ]; then
    share_classes
    echo "$libs"
    exit 0
fi

need mvn maven
mkdir -p "$cache"
work=$(mktemp -d "$cache/.fetch-$version.XXXXXX")

dependency() {
    echo "<dependency><groupId>$1</groupId><artifactId>$2</artifactId><version>$3</version></dependency>"
}
{
    echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>local</groupId><artifactId>kafka-libs</artifactId><version>1</version><packaging>pom</packaging>'
    echo '<dependencies>'
    dependency org.apache.kafka kafka_2.13 "$version"
    dependency org.apache.kafka kafka-tools "$version"
    [ "$with" != mirror ] || dependency org.apache.kafka connect-mirror "$version"
    case $version in
    # The 3.x line logs by reload4j, 4.x by log4j 2.
    3.*) dependency org.slf4j slf4j-reload4j 1.7.36 ;;
    *)
        for artifact in log4j-api log4j-core log4j-slf4j-impl; do
            dependency org.apache.logging.log4j $artifact 2.25.3
        done
        ;;
    esac
    echo '</dependencies></project>'
} >"$work/pom.xml"

say "fetching Apache Kafka $version${with:+ with $with} by Maven"
mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/libs" >&2
ls "$work"/libs/kafka_2.13-*.jar >/dev/null

# Moved in one step, so that a half-fetched directory is never seen. Whoever comes second keeps the first one's.
mkdir -p "$kept"
mv -T "$work/libs" "$libs" 2>/dev/null || [ -d "$libs" ] || { say "cannot create $libs"; exit 1; }
share_classes
echo "$libs"
