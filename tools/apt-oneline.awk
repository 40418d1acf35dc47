# Prints the first `deb` line of an apt *.list file that serves `suite` with component main, as a deb822 stanza of that
# suite and component only. Options ([signed-by=... arch=...]) become the fields of the same name.
BEGIN {
    split("arch Architectures lang Languages target Targets pdiffs PDiffs by-hash By-Hash allow-insecure Allow-Insecure " \
          "allow-weak Allow-Weak allow-downgrade-to-insecure Allow-Downgrade-To-Insecure trusted Trusted signed-by " \
          "Signed-By check-valid-until Check-Valid-Until valid-until-min Valid-Until-Min valid-until-max " \
          "Valid-Until-Max check-date Check-Date date-max-future Date-Max-Future inrelease-path InRelease-Path", words, " ")
    for (i = 1; i in words; i += 2) field[words[i]] = words[i + 1]
}
done || !/^[ \t]*deb[ \t]/ { next }
{
    line = $0; sub(/[ \t]#.*/, "", line); sub(/^[ \t]*deb[ \t]+/, "", line)
    options = ""
    if (line ~ /^\[/) { options = line; sub(/^\[[ \t]*/, "", options); sub(/[ \t]*\].*/, "", options); sub(/^\[[^]]*\][ \t]*/, "", line) }
    count = split(line, part, /[ \t]+/)
    main = 0
    for (i = 3; i <= count; i++) if (part[i] == "main") main = 1
    if (part[2] != suite || !main) next
    print "Types: deb\nURIs: " part[1] "\nSuites: " suite "\nComponents: main"
    count = split(options, option, /[ \t]+/)
    for (i = 1; i <= count; i++) {
        name = option[i]; sub(/[+-]?=.*/, "", name); value = option[i]; sub(/^[^=]*=/, "", value)
        gsub(/,/, " ", value)
        if (name in field) print field[name] ": " value
    }
    done = 1
}
