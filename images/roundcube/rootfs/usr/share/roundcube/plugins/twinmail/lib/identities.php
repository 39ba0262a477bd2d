<?php

/** A user's identities in Roundcube, kept in step with the addresses that belong to the mailbox. */
final class twinmail_identities
{
    public function __construct(private readonly rcube_user $user)
    {
    }

    /** Add what is missing and remove what is no longer theirs; names and signatures stay as the user wrote them. */
    public function follow(twinmail_owners $owners): void
    {
        $mailbox = (string) $this->user->get_username();
        if (!$owners->knows($mailbox)) {
            return;
        }
        $addresses = $owners->addresses_of($mailbox);
        $kept = [];
        $doomed = [];
        foreach ($this->user->list_identities() as $one) {
            if ($owners->is_own($mailbox, $one['email'])) {
                $kept[] = strtolower($one['email']);
            } else {
                $doomed[] = $one['identity_id'];
            }
        }
        foreach (array_diff($addresses, $kept) as $address) {
            $this->user->insert_identity([
                'email' => $address,
                'name' => $owners->name_of($mailbox),
                'standard' => (int) ($kept === [] && $address === $addresses[0]),
            ]);
        }
        // After the new ones: Roundcube keeps the last identity of a user whatever it is.
        foreach ($doomed as $id) {
            $this->user->delete_identity($id);
        }
    }

    /** Whether *$id* is the only identity with its address: without it the address could not be written from. */
    public function is_last(string $id, twinmail_owners $owners): bool
    {
        $emails = array_column($this->user->list_identities(), 'email', 'identity_id');
        $email = strtolower($emails[$id] ?? '');
        $same = array_filter($emails, static fn (string $one): bool => strtolower($one) === $email);
        return $owners->is_own((string) $this->user->get_username(), $email) && count($same) < 2;
    }
}
