#!/bin/sh
# Makes one client program ready to run: fetches its library in the pinned version, compiles, keeps the result in
# .cache/clients/<name>. Prints the command that starts it, a word a line, on stdout, everything else on stderr. Running
# it again costs little.
#
#   tests/clients/prepare.sh java-4.3.1
#
# OFFLINE=1  only with what is there already. Exit status 3: this machine lacks a tool, or (offline) what was to be fetched.
set -eu

name=${1:?usage: tests/clients/prepare.sh NAME}
here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
cache=$project/.cache/clients
out=$cache/$name
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

absent() {
    echo "$1" >&2
    exit 3
}
need() { command -v "$1" >/dev/null 2>&1 || absent "$name needs $2"; }
fetching() { [ -z "${OFFLINE:-}" ] || absent "$name is not there yet and nothing may be fetched: make clients"; }

# A directory to build in, which takes the place of $out in one step: nothing half-made is ever seen.
begin() {
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/.$name.XXXXXX")
}
# What was built belongs to these sources; the stamp says so.
stamp() { cat "$@" "$here/prepare.sh" | cksum; }
is_ready() { [ "$(cat "$out/stamp" 2>/dev/null)" = "$1" ]; }
done_with() {
    echo "$1" >"$work/stamp"
    rm -rf "$out"
    mv -T "$work" "$out"
    work=
}

pom() {
    echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>local</groupId><artifactId>client-libs</artifactId><version>1</version><packaging>pom</packaging>'
    echo '<dependencies>'
    for coordinates in "$@"; do
        echo "$coordinates" | sed 's|\(.*\):\(.*\):\(.*\)|<dependency><groupId>\1</groupId><artifactId>\2</artifactId><version>\3</version></dependency>|'
    done
    echo '</dependencies></project>'
}

# Of the newest version: $1 is the class to run, further jars by Maven.
java_program() {
    class=$1
    shift
    need java "a Java (openjdk-17-jdk-headless)"
    need javac "a Java compiler (openjdk-17-jdk-headless)"
    sources="$here/java/$class.java $here/java/Task.java $here/java/Line.java"
    # shellcheck disable=SC2086
    wanted=$(stamp $sources)
    libs=$(sh "$project/tests/fetch-kafka.sh" 4.3.1)
    if ! is_ready "$wanted"; then
        begin
        mkdir "$work/libs"
        if [ $# -gt 0 ]; then
            fetching
            need mvn "Maven (maven)"
            pom "$@" >"$work/pom.xml"
            mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
                -DoutputDirectory="$work/libs" >&2
        fi
        # shellcheck disable=SC2086
        javac -nowarn -d "$work/classes" -cp "$work/libs/*:$libs/*" $sources >&2
        done_with "$wanted"
    fi
    printf '%s\n' java -Xmx192m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
        "-Dlog4j2.configurationFile=$here/java/log4j2.properties" -cp "$out/classes:$libs/*:$out/libs/*" "$class"
}

# Compiled against the client's own jars: the test clusters' for the versions that they run, else fetched by Maven.
java_client() {
    version=${name#java-}
    need java "a Java (openjdk-17-jdk-headless)"
    need javac "a Java compiler (openjdk-17-jdk-headless)"
    sources="$here/java/Numbered.java $here/java/Task.java $here/java/Line.java"
    # shellcheck disable=SC2086
    wanted=$(stamp $sources)
    case $version in
    4.3.1 | 3.9.2) libs=$(sh "$project/tests/fetch-kafka.sh" "$version") ;;
    *) libs=$out/libs ;;
    esac
    if ! is_ready "$wanted"; then
        begin
        compile=$libs
        if [ "$libs" = "$out/libs" ]; then
            fetching
            need mvn "Maven (maven)"
            pom "org.apache.kafka:kafka-clients:$version" org.slf4j:slf4j-reload4j:1.7.36 >"$work/pom.xml"
            mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
                -DoutputDirectory="$work/libs" >&2
            compile=$work/libs
        fi
        # shellcheck disable=SC2086
        javac -nowarn -Xlint:-options -d "$work/classes" -cp "$compile/*" $sources >&2
        done_with "$wanted"
    fi
    # Quick to start; the log goes to standard error.
    printf '%s\n' java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
        "-Dlog4j2.configurationFile=$here/java/log4j2.properties" "-Dlog4j.configuration=file:$here/java/log4j.properties" \
        -cp "$out/classes:$libs/*" Numbered
}

# Into a directory of its own, nothing is installed.
python_client() {
    need python3 "Python 3 (python3)"
    python3 -m pip --version >/dev/null 2>&1 || absent "$name needs pip (python3-pip)"
    wanted=$(stamp "$here/$name/requirements.txt")
    if ! is_ready "$wanted"; then
        fetching
        begin
        python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target "$work/site" \
            -r "$here/$name/requirements.txt" >&2
        done_with "$wanted"
    fi
    printf '%s\n' env "PYTHONPATH=$out/site" PYTHONDONTWRITEBYTECODE=1 python3 "$here/$name/main.py"
}

go_client() {
    need go "Go 1.26 (golang)"
    wanted=$(stamp "$here/$name"/*.go "$here/$name"/go.* "$here"/numbered-go/*)
    if ! is_ready "$wanted"; then
        fetching
        begin
        (cd "$here/$name" && go build -p 2 -mod=readonly -o "$work/program" .) >&2
        done_with "$wanted"
    fi
    echo "$out/program"
}

# Node.js looks for modules beside the program: it runs from a copy.
node_client() {
    need node "Node.js 20.19 or newer (nodejs)"
    need npm "npm (npm)"
    node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' \
        || absent "$name needs Node.js 20.19 or newer; this is $(node --version)"
    wanted=$(stamp "$here/$name"/*.mjs "$here/$name"/*.json "$here/numbered.mjs")
    if ! is_ready "$wanted"; then
        fetching
        begin
        mkdir "$work/$name"
        cp "$here/numbered.mjs" "$work"
        cp "$here/$name"/*.mjs "$here/$name"/*.json "$work/$name"
        (cd "$work/$name" && npm ci --silent --no-audit --no-fund --ignore-scripts) >&2
        done_with "$wanted"
    fi
    printf '%s\n' node "$out/$name/main.mjs"
}

case $name in
java-txn) java_program Exact ;;
streams) java_program WordCount org.apache.kafka:kafka-streams:4.3.1 ;;
java-*) java_client ;;
librdkafka | kafka-python | aiokafka) python_client ;;
franz-go | franz-go-txn | sarama) go_client ;;
kafkajs | platformatic) node_client ;;
*)
    echo "no client is called $name" >&2
    exit 2
    ;;
esac
