<?php

/*
 * Prepares the volume, then becomes the process manager: a key made once, the folders, the database's schema.
 *
 * One container does this at a time: the lock is held until the process that it becomes ends.
 */

declare(strict_types=1);

const VOLUME = '/var/lib/twinmail';
const INSTALL_PATH = '/var/lib/roundcube/';

exit(main());

function main(): int
{
    umask(0077);
    $lock = fopen(VOLUME . '/lock', 'c');
    if ($lock === false || !flock($lock, LOCK_EX | LOCK_NB)) {
        return failed('cannot be locked; give it to user ' . posix_getuid() . ' and to one container only');
    }
    foreach (['temp', 'logins'] as $folder) {
        if (!is_dir(VOLUME . "/$folder") && !mkdir(VOLUME . "/$folder", 0700)) {
            return failed("$folder cannot be made");
        }
    }
    if (!is_file(VOLUME . '/des_key') && !write_key(VOLUME . '/des_key')) {
        return failed('des_key cannot be written');
    }
    require INSTALL_PATH . 'program/include/clisetup.php';
    if (!update_schema(INSTALL_PATH . 'SQL')) {
        return failed('the database cannot be brought to the schema of this version; see above');
    }
    pcntl_exec('/usr/sbin/php-fpm8.4', ['--nodaemonize', '--fpm-config', '/etc/php/8.4/fpm/php-fpm.conf']);
    return failed('the process manager cannot be started');
}

function failed(string $what): int
{
    fwrite(STDERR, 'twinmail: ' . VOLUME . ": $what\n");
    return 1;
}

/** A secret for what Roundcube keeps encrypted in sessions: complete under its name, or not there. */
function write_key(string $path): bool
{
    $file = fopen("$path.new", 'w');
    $key = rtrim(strtr(base64_encode(random_bytes(24)), '+/', '-_'), '=');
    return $file !== false
        && fwrite($file, $key) === strlen($key)
        && fsync($file)
        && fclose($file)
        && rename("$path.new", $path);
}

/** Make the tables, or bring those of an earlier version up to date. */
function update_schema(string $folder): bool
{
    $db = rcmail::get_instance()->get_dbh();
    $db->db_connect('w');
    if ($db->is_error()) {
        return false;
    }
    if (!$db->list_tables()) {
        // Half a schema would be taken for an old one.
        $sql = "BEGIN;\n" . file_get_contents("$folder/sqlite.initial.sql") . "\nCOMMIT;\n";
        return (bool) $db->exec_script($sql);
    }
    return rcmail_utils::db_update($folder, 'roundcube', null, ['quiet' => true]);
}
