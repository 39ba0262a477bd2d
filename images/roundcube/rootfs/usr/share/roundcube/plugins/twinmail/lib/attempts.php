<?php

/**
 * Failed logins of the last minutes, one small file a key: who is refused, and for how long.
 *
 * Three keys count: the account from one network, the network for all accounts, the account from everywhere.
 * The last is generous, so that a stranger cannot lock somebody out with ease.
 */
final class twinmail_attempts
{
    private const SECONDS = 300;
    private const PAIR = 5;
    private const NETWORK = 20;
    private const ACCOUNT = 50;

    public function __construct(private readonly string $folder)
    {
    }

    /** Seconds until *$account* may be tried from *$address* again; 0 if now. */
    public function seconds_to_wait(string $account, string $address): int
    {
        $waits = [0];
        foreach ($this->limits($account, $address) as $key => $limit) {
            $times = $this->recent(@file_get_contents($this->path($key)) ?: '');
            if (count($times) >= $limit) {
                $waits[] = $times[count($times) - $limit] + self::SECONDS - time();
            }
        }
        return max($waits);
    }

    public function failed(string $account, string $address): void
    {
        foreach ($this->limits($account, $address) as $key => $limit) {
            $file = fopen($this->path($key), 'c+');
            if ($file === false || !flock($file, LOCK_EX)) {
                continue;
            }
            $times = array_slice($this->recent((string) stream_get_contents($file)), 1 - $limit);
            rewind($file);
            ftruncate($file, 0);
            fwrite($file, implode("\n", [...$times, time()]));
            fclose($file);
        }
        $this->forget_the_old();
    }

    public function succeeded(string $account, string $address): void
    {
        @unlink($this->path((string) array_key_first($this->limits($account, $address))));
    }

    /** @return array<string, int> */
    private function limits(string $account, string $address): array
    {
        $network = self::network($address);
        return [
            "pair $account $network" => self::PAIR,
            "network $network" => self::NETWORK,
            "account $account" => self::ACCOUNT,
        ];
    }

    /** An IPv6 customer has at least a /64, which counts as one. */
    private static function network(string $address): string
    {
        $octets = @inet_pton($address);
        return $octets === false ? $address : bin2hex(strlen($octets) === 16 ? substr($octets, 0, 8) : $octets);
    }

    /** @return list<int> */
    private function recent(string $text): array
    {
        $since = time() - self::SECONDS;
        return array_values(array_filter(
            array_map('intval', explode("\n", $text)),
            static fn (int $at): bool => $at > $since,
        ));
    }

    private function path(string $key): string
    {
        return $this->folder . '/' . hash('sha256', $key);
    }

    /** Now and then, so that attempts from everywhere do not fill the volume. */
    private function forget_the_old(): void
    {
        if (random_int(0, 19) > 0) {
            return;
        }
        foreach (glob($this->folder . '/*') ?: [] as $path) {
            if (@filemtime($path) < time() - self::SECONDS) {
                @unlink($path);
            }
        }
    }
}
