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

/**
 * Make the tables, or bring those of an earlier version up to date.
 *
 * It happens in a copy that takes the database's place when it is complete: a stop in between changes nothing.
 */
function update_schema(string $folder): bool
{
    $path = VOLUME . '/roundcube.db';
    $copy = "$path.new";
    array_map('unlink', glob("$copy*") ?: []);
    if (is_file($path)) {
        $versions = array_map(static fn (string $one): string => basename($one, '.sql'), glob("$folder/sqlite/*.sql"));
        $current = new PDO("sqlite:$path");
        $version = $current->query("SELECT value FROM system WHERE name = 'roundcube-version'")->fetchColumn();
        if ((string) $version >= max($versions)) {
            return true;
        }
        $current->exec('VACUUM INTO ' . $current->quote($copy));
    }
    $rcmail = rcmail::get_instance();
    $rcmail->config->set('db_dsnw', "sqlite:///$copy?mode=0600");
    // Into a file that is empty, connecting makes the tables.
    $database = $rcmail->get_dbh();
    $database->db_connect('w');
    $done = rcmail_utils::db_update($folder, 'roundcube', null, ['quiet' => true, 'errors' => true]);
    $failed = (string) $database->is_error();
    $database->closeConnection();
    if (!$done || $failed !== '') {
        fwrite(STDERR, "twinmail: $failed\n");
        return false;
    }
    // All of it into the one file that moves.
    [$busy] = (new PDO("sqlite:$copy"))->query('PRAGMA wal_checkpoint(TRUNCATE)')->fetch(PDO::FETCH_NUM);
    if ($busy || !rename($copy, $path)) {
        return false;
    }
    array_map('unlink', glob("$copy*") ?: []);
    return true;
}
