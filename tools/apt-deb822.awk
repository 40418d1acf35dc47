# Prints the first enabled stanza of an apt *.sources file that serves `suite` with component main, as it stands but
# with that suite and component only. Continuation lines (an embedded Signed-By key) stay with their field.
function finish(   i, words, count, has_suite, has_main) {
    count = split(value["suites"], words, /[ \t]+/)
    for (i = 1; i <= count; i++) if (words[i] == suite) has_suite = 1
    count = split(value["components"], words, /[ \t]+/)
    for (i = 1; i <= count; i++) if (words[i] == "main") has_main = 1
    if (!done && has_suite && has_main && (" " value["types"] " ") ~ / deb / && tolower(value["enabled"]) !~ /^(no|false|0|off)$/) {
        print "Types: deb"
        for (i = 1; i <= fields; i++)
            if (order[i] == "suites") print "Suites: " suite
            else if (order[i] == "components") print "Components: main"
            else if (order[i] != "types" && order[i] != "enabled") print text[order[i]]
        done = 1
    }
    split("", value); split("", text); split("", order); fields = 0; name = ""
}
/^#/ { next }
/^[ \t]*$/ { finish(); next }
/^[ \t]/ {
    if (name != "") {
        text[name] = text[name] "\n" $0
        line = $0; sub(/^[ \t]+/, "", line); value[name] = value[name] " " line
    }
    next
}
{
    name = tolower($0); sub(/:.*/, "", name); gsub(/[ \t]/, "", name)
    line = $0; sub(/^[^:]*:[ \t]*/, "", line); sub(/[ \t]+$/, "", line)
    order[++fields] = name; text[name] = $0; value[name] = line
}
END { finish() }
