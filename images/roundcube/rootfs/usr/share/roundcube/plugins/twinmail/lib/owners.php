<?php

/** Which addresses belong to which mailbox: the mounted file, read anew at each request. */
final class twinmail_owners
{
    /** @param array<string, array{name: string, addresses: list<string>}> $mailboxes */
    private function __construct(private readonly array $mailboxes)
    {
    }

    public static function load(string $path): self
    {
        $document = json_decode((string) file_get_contents($path), true, 8, JSON_THROW_ON_ERROR);
        return new self($document['mailboxes']);
    }

    /** The mailbox that logs in as *$login*: its name, or an address that is its alone. Others stay as given. */
    public function mailbox_of(string $login): string
    {
        $login = strtolower(trim($login));
        $found = array_keys(array_filter(
            $this->mailboxes,
            static fn (array $box): bool => in_array($login, $box['addresses'], true),
        ));
        return count($found) === 1 && !isset($this->mailboxes[$login]) ? (string) $found[0] : $login;
    }

    public function knows(string $mailbox): bool
    {
        return isset($this->mailboxes[$mailbox]);
    }

    /** @return list<string> */
    public function addresses_of(string $mailbox): array
    {
        return $this->mailboxes[$mailbox]['addresses'] ?? [];
    }

    public function name_of(string $mailbox): string
    {
        return $this->mailboxes[$mailbox]['name'] ?? '';
    }

    public function is_own(string $mailbox, string $address): bool
    {
        return in_array(strtolower(trim($address, " \t<>")), $this->addresses_of($mailbox), true);
    }

    /**
     * Every address in a header field.
     *
     * @return list<string>
     */
    public static function addresses_in(string $field): array
    {
        return array_values(array_column(rcube_mime::decode_address_list($field, null, false), 'mailto'));
    }
}
