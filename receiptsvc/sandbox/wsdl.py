"""The WSDL that the sandbox serves, in the shape of an ASP.NET service's.

Its fields are the documented ones. Where no document gives a type (returnCode, additionalOptions), the type is the
sandbox's own invention.
"""

from string import Template
from xml.sax.saxutils import quoteattr

_ACTION = "http://www.services.dynmark.com/SendMessageCollection"
_FIELDS = """\
   <s:complexType name="Message">
    <s:sequence>
     <s:element minOccurs="0" maxOccurs="1" name="originator" type="s:string"/>
     <s:element minOccurs="0" maxOccurs="1" name="recipients" type="tns:ArrayOfString"/>
     <s:element minOccurs="0" maxOccurs="1" name="text" type="s:string"/>
     <s:element minOccurs="0" maxOccurs="1" name="clientRef" type="s:string"/>
     <s:element minOccurs="0" maxOccurs="1" name="$callback_element" type="s:string"/>
     <s:element minOccurs="0" maxOccurs="1" name="validUntil" type="s:dateTime"/>
     <s:element minOccurs="0" maxOccurs="1" name="deliverAfter" type="s:dateTime"/>
     <s:element minOccurs="0" maxOccurs="1" name="forwardSubmissionDeliveryStatus" type="s:boolean"/>
     <s:element minOccurs="0" maxOccurs="1" name="includeMessageTextInDeliveryStatus" type="s:boolean"/>
     <s:element minOccurs="0" maxOccurs="1" name="filterSetName" type="s:string"/>
     <s:element minOccurs="0" maxOccurs="1" name="impersonateUserName" type="s:string"/>
     <s:element minOccurs="0" maxOccurs="1" name="messageGuid" type="s:string"/>
     <s:element minOccurs="0" maxOccurs="1" name="additionalOptions" type="tns:ArrayOfKeyValuePair"/>
    </s:sequence>
   </s:complexType>
   <s:complexType name="KeyValuePair">
    <s:sequence>
     <s:element minOccurs="0" maxOccurs="1" name="key" type="s:string"/>
     <s:element minOccurs="0" maxOccurs="1" name="value" type="s:string"/>
    </s:sequence>
   </s:complexType>
   <s:complexType name="MessageResult">
    <s:sequence>
     <s:element minOccurs="0" maxOccurs="1" name="transactionID" type="s:long"/>
     <s:element minOccurs="0" maxOccurs="1" name="recipients" type="tns:ArrayOfString"/>
     <s:element minOccurs="0" maxOccurs="1" name="returnCode" type="s:string"/>
     <s:element minOccurs="0" maxOccurs="1" name="returnDescription" type="s:string"/>
     <s:element minOccurs="0" maxOccurs="1" name="returnDetail" type="s:string"/>
    </s:sequence>
   </s:complexType>
"""


def _array(name: str, item: str, kind: str) -> str:
    return (
        f'   <s:complexType name="{name}"><s:sequence>\n'
        f'    <s:element minOccurs="0" maxOccurs="unbounded" name="{item}" nillable="true" type="{kind}"/>\n'
        "   </s:sequence></s:complexType>\n"
    )


def _binding(prefix: str) -> str:
    name = "MessagingServicesWSSoap" + ("12" if prefix == "soap12" else "")
    return (
        f' <wsdl:binding name="{name}" type="tns:MessagingServicesWSSoap">\n'
        f'  <{prefix}:binding transport="http://schemas.xmlsoap.org/soap/http"/>\n'
        '  <wsdl:operation name="SendMessageCollection">\n'
        f'   <{prefix}:operation soapAction="{_ACTION}" style="document"/>\n'
        f'   <wsdl:input><{prefix}:body use="literal"/></wsdl:input>\n'
        f'   <wsdl:output><{prefix}:body use="literal"/></wsdl:output>\n'
        "  </wsdl:operation>\n"
        " </wsdl:binding>\n"
    )


_WSDL = Template(
    """<?xml version="1.0" encoding="utf-8"?>
<wsdl:definitions xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/" xmlns:s="http://www.w3.org/2001/XMLSchema"
 xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:soap12="http://schemas.xmlsoap.org/wsdl/soap12/"
 xmlns:tns="http://www.services.dynmark.com/" targetNamespace="http://www.services.dynmark.com/">
 <wsdl:types>
  <s:schema elementFormDefault="qualified" targetNamespace="http://www.services.dynmark.com/">
   <s:element name="SendMessageCollection"><s:complexType><s:sequence>
    <s:element minOccurs="0" maxOccurs="1" name="name" type="s:string"/>
    <s:element minOccurs="0" maxOccurs="1" name="password" type="s:string"/>
    <s:element minOccurs="0" maxOccurs="1" name="message" type="tns:ArrayOfMessage"/>
   </s:sequence></s:complexType></s:element>
   <s:element name="SendMessageCollectionResponse"><s:complexType><s:sequence>
    <s:element minOccurs="0" maxOccurs="1" name="SendMessageCollectionResult" type="tns:ArrayOfMessageResult"/>
   </s:sequence></s:complexType></s:element>
"""
    + _FIELDS
    + _array("ArrayOfMessage", "Message", "tns:Message")
    + _array("ArrayOfMessageResult", "MessageResult", "tns:MessageResult")
    + _array("ArrayOfString", "string", "s:string")
    + _array("ArrayOfKeyValuePair", "KeyValuePair", "tns:KeyValuePair")
    + """  </s:schema>
 </wsdl:types>
 <wsdl:message name="SendMessageCollectionSoapIn">
  <wsdl:part name="parameters" element="tns:SendMessageCollection"/>
 </wsdl:message>
 <wsdl:message name="SendMessageCollectionSoapOut">
  <wsdl:part name="parameters" element="tns:SendMessageCollectionResponse"/>
 </wsdl:message>
 <wsdl:portType name="MessagingServicesWSSoap">
  <wsdl:operation name="SendMessageCollection">
   <wsdl:input message="tns:SendMessageCollectionSoapIn"/>
   <wsdl:output message="tns:SendMessageCollectionSoapOut"/>
  </wsdl:operation>
 </wsdl:portType>
"""
    + _binding("soap")
    + _binding("soap12")
    + """ <wsdl:service name="MessagingServicesWS">
  <wsdl:port name="MessagingServicesWSSoap" binding="tns:MessagingServicesWSSoap">
   <soap:address location=$address/>
  </wsdl:port>
  <wsdl:port name="MessagingServicesWSSoap12" binding="tns:MessagingServicesWSSoap12">
   <soap12:address location=$address/>
  </wsdl:port>
 </wsdl:service>
</wsdl:definitions>
"""
)


def render(address: str, callback_element: str) -> bytes:
    """The WSDL of a service at `address` that knows one spelling of the callback's element."""
    return _WSDL.substitute(address=quoteattr(address), callback_element=callback_element).encode()
