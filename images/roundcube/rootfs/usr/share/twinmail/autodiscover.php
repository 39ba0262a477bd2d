<?php

/*
 * Autodiscover as Outlook asks for it: the rendered answer, with the address that was asked about put in.
 */

declare(strict_types=1);

const ANSWER = '/etc/twinmail/web/files/autodiscover/autodiscover.xml';
const PLACE = '%EMAILADDRESS%';

$answer = is_file(ANSWER) ? file_get_contents(ANSWER) : false;
if ($answer === false) {
    http_response_code(404);
    exit;
}
// Not parsed as XML: a question needs no entities and no documents from elsewhere to be understood.
$question = (string) file_get_contents('php://input', length: 16384);
if (!preg_match('~<EMailAddress>\s*([^<>&"\'\s]{3,254})\s*</EMailAddress>~iu', $question, $match)) {
    http_response_code(400);
    header('Content-Type: text/plain; charset=utf-8');
    echo "expected a question of Outlook's with one EMailAddress\n";
    exit;
}
header('Content-Type: text/xml; charset=utf-8');
echo str_replace(PLACE, htmlspecialchars($match[1], ENT_XML1 | ENT_QUOTES), $answer);
