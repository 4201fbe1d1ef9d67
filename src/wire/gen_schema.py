#!/usr/bin/env python3
"""Write schema.txt, the field layout of every Kafka request and response, from the message definitions in a kafka-clients jar.

Usage: gen_schema.py kafka-clients-4.3.1.jar > schema.txt

The output is made for people and for schema.rs:
  KEY NAME VERSIONS FLEXIBLE        one API; versions "3-13" (of the request) or "none", first flexible version or "none"
  >  or  <                          its request, its response
   Name type [versions] [?nullable] [#tag]
One more blank of indentation is one level of nesting. "[]" before a type is an array, "{}" a structure whose fields follow.
Versions are left out where they are "0+"; shared structures are written out where they are used. Unstable versions
(latestVersionUnstable) are left out of VERSIONS: brokers do not offer them.
"""
import json
import re
import sys
import zipfile


def load(text):
    """The definitions are JSON with // comments."""
    return json.loads(re.sub(r'("(?:[^"\\]|\\.)*")|//[^\n]*', lambda m: m.group(1) or "", text))


def write_fields(fields, shared, depth, out):
    for field in fields:
        if field.get("flexibleVersions"):
            raise SystemExit(f"{field['name']}: a field with flexible versions of its own is not supported")
        if "tag" in field and field["taggedVersions"] != field["versions"]:
            raise SystemExit(f"{field['name']}: tagged in some of its versions only is not supported")
        array = "[]" if field["type"].startswith("[]") else ""
        kind = field["type"].removeprefix("[]")
        structure = kind[0].isupper()
        line = [field["name"], array + ("{}" if structure else kind)]
        if field["versions"] != "0+":
            line.append(field["versions"])
        if field.get("nullableVersions"):
            line.append("?" + field["nullableVersions"])
        if "tag" in field:
            line.append(f"#{field['tag']}")
        out.append(" " * depth + " ".join(line))
        if structure:
            write_fields(field.get("fields") or shared[kind], shared, depth + 1, out)


def stable(message):
    versions = message["validVersions"]
    if message.get("latestVersionUnstable") and "-" in versions:
        low, high = versions.split("-")
        return f"{low}-{int(high) - 1}"
    return versions


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    requests, responses = {}, {}
    with zipfile.ZipFile(sys.argv[1]) as jar:
        for name in jar.namelist():
            if re.fullmatch(r"common/message/\w+\.json", name):
                message = load(jar.read(name).decode())
                if message["type"] in ("request", "response"):
                    side = requests if message["type"] == "request" else responses
                    side[message["apiKey"]] = message
    out = []
    for key in sorted(requests):
        request, response = requests[key], responses[key]
        if request.get("flexibleVersions") != response.get("flexibleVersions"):
            raise SystemExit(f"API {key}: request and response differ in their flexible versions")
        flexible = request.get("flexibleVersions", "none").removesuffix("+")
        out.append(f"{key} {request['name'].removesuffix('Request')} {stable(request)} {flexible}")
        for mark, message in ((">", request), ("<", response)):
            out.append(mark)
            shared = {s["name"]: s["fields"] for s in message.get("commonStructs", [])}
            write_fields(message.get("fields", []), shared, 1, out)
    print("\n".join(out))


if __name__ == "__main__":
    main()
