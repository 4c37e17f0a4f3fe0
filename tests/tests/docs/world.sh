# The world of the documentation: run by tests/docs.rs in namespaces of its own, with the path of spillway. What it
# writes goes into memory, and is gone with it.
set -e
spillway=$1
root=$(mktemp -d)
if [ -z "$IN_WORLD" ]; then
    mount --make-rprivate /
    mount -t tmpfs tmpfs "$root"
    mkdir "$root/upper" "$root/work" "$root/world"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/world"
    cp "$spillway" "$root/world/usr/local/bin/spillway"
    cp "$0" "$root/world/root/world.sh"
    mount -t proc proc "$root/world/proc"
    mount --rbind /dev "$root/world/dev"
    for own in tmp run; do mount -t tmpfs tmpfs "$root/world/$own"; done
    IN_WORLD=1 exec chroot "$root/world" bash /root/world.sh
fi

export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up
echo '127.0.0.1 localhost db1 db2 restored-db' > /etc/hosts
echo 'hosts: files' > /etc/nsswitch.conf
mkdir -p /nfs /var/spool/spillway /etc/spillway /root/work
cd /root/work

# A CA, a server's certificate for db1, and one for Spillway.
ca=/etc/ssl/db-ca
openssl req -x509 -newkey ed25519 -nodes -days 2 -subj /CN=ca -keyout $ca.key -out $ca.pem 2>/dev/null
for name in db1 spillway; do
    openssl req -newkey ed25519 -nodes -subj /CN=$name -keyout /etc/ssl/$name.key -out $name.csr 2>/dev/null
    printf 'subjectAltName=DNS:%s' $name > $name.ext
    openssl x509 -req -in $name.csr -CA $ca.pem -CAkey $ca.key -CAcreateserial -days 2 -extfile $name.ext \
        -out /etc/ssl/$name.pem 2>/dev/null
done

# The server that is db1 and the others, with the account that the documentation uses.
mkdir /tmp/db
mariadb-install-db --no-defaults --user=root --datadir=/tmp/db --auth-root-authentication-method=normal \
    --skip-test-db > /tmp/install.log 2>&1
mkdir -p /run/mysqld
mariadbd --no-defaults --user=root --datadir=/tmp/db --socket=/run/mysqld/mysqld.sock --port=3306 --log-bin=binlog \
    --ssl-ca=$ca.pem --ssl-cert=/etc/ssl/db1.pem --ssl-key=/etc/ssl/db1.key > /tmp/mariadbd.log 2>&1 &
patience() { for _ in $(seq 300); do "$@" > /dev/null 2>&1 && return; sleep 0.1; done; echo "in vain: $*" >&2; return 1; }
sql() { mariadb --no-defaults --socket=/run/mysqld/mysqld.sock -e "$1"; }
patience sql 'SELECT 1'
sql "CREATE USER backup@'%' IDENTIFIED BY '…'; GRANT ALL ON *.* TO backup@'%';
     CREATE DATABASE shop; CREATE TABLE shop.orders (id int PRIMARY KEY, v text);
     INSERT INTO shop.orders VALUES (1, 'one'), (2, 'two')"
printf '[client]\nuser = backup\npassword = "…"\n' | tee /root/.my.cnf /etc/spillway.cnf > verify.cnf
chmod 600 verify.cnf /etc/spillway.cnf

begin() { place=$1; servers=; }
failed() { echo "$place: $1" >&2; cat /tmp/out >&2; exit 1; }
run() { bash -o pipefail -c "$1" > /tmp/out 2>&1 < /dev/null || failed "$1"; }
listens() { grep -q '^listening on ' /tmp/out; }
serve() {
    : > /tmp/out
    bash -c "exec $1" > /tmp/out 2>&1 < /dev/null &
    servers="$servers $!"
    patience listens || failed "$1"
}
end() { [ -z "$servers" ] || { kill $servers; wait $servers || failed 'the end of a server'; }; }
