# squid's basic authentication helper: a user and a password a line, OK or ERR a line.
while read -r user password; do
    if [ "$user" = user ] && [ "$password" = secret ]; then
        echo OK
    else
        echo ERR
    fi
done
