<?php

/**
 * The first logins of a mailbox, one after another.
 *
 * Roundcube looks for its user, and makes one if there is none; of two who look at the same instant both find none,
 * and the database refuses the second. Later logins find the user, and nobody waits.
 */
final class twinmail_first_login
{
    private const SECONDS = 20;

    /** @var resource|null open until the request ends, and with it the lock */
    private $lock = null;

    public function __construct(private readonly string $folder, private readonly rcube_db $database)
    {
    }

    /** Return when *$mailbox* has a user, or when this request alone may make it; after a while in any case. */
    public function take_turn(string $mailbox): void
    {
        if ($this->has_user($mailbox)) {
            return;
        }
        $path = $this->folder . '/' . hash('sha256', "first $mailbox");
        $file = fopen($path, 'c');
        if ($file === false) {
            return;
        }
        // What is old in this folder is cleared away.
        touch($path);
        $until = microtime(true) + self::SECONDS;
        while (!flock($file, LOCK_EX | LOCK_NB)) {
            if (microtime(true) > $until) {
                return;
            }
            usleep(50_000);
        }
        $this->lock = $file;
    }

    private function has_user(string $mailbox): bool
    {
        $table = $this->database->table_name('users', true);
        $found = $this->database->query("SELECT 1 FROM $table WHERE `username` = ?", $mailbox);
        return $this->database->fetch_array($found) !== false;
    }
}
